package discovery_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"oaas.io/control-plane/discovery"
	"oaas.io/control-plane/proto/pmpb"
)

func crmMeta(change func(*pmpb.NodeMeta)) *pmpb.NodeMeta {
	m := &pmpb.NodeMeta{Role: pmpb.NodeMeta_ROLE_CRM, Name: "edge-1", GrpcAddress: "crm.edge:8088", Region: "eu", Zone: "eu-1", Version: "v1"}
	if change != nil {
		change(m)
	}
	return m
}

func TestMetaRoundTrip(t *testing.T) {
	for name, m := range map[string]*pmpb.NodeMeta{
		"crm":                   crmMeta(nil),
		"crm with TLS":          crmMeta(func(m *pmpb.NodeMeta) { m.GrpcTls = true }),
		"crm without a host":    crmMeta(func(m *pmpb.NodeMeta) { m.GrpcAddress = ":8088" }),
		"crm with IPv6":         crmMeta(func(m *pmpb.NodeMeta) { m.GrpcAddress = "[::1]:8088" }),
		"pm":                    {Role: pmpb.NodeMeta_ROLE_PM, Name: "pm-0.pm.oaas.svc"},
		"region in any letters": crmMeta(func(m *pmpb.NodeMeta) { m.Region = "กรุงเทพ" }),
	} {
		t.Run(name, func(t *testing.T) {
			b, err := discovery.EncodeMeta(m)
			if err != nil {
				t.Fatal(err)
			}
			got, err := discovery.DecodeMeta(b)
			if err != nil {
				t.Fatal(err)
			}
			if !proto.Equal(m, got) {
				t.Errorf("got %v, want %v", got, m)
			}
		})
	}
}

func TestMetaRefused(t *testing.T) {
	for name, m := range map[string]*pmpb.NodeMeta{
		"no role":         crmMeta(func(m *pmpb.NodeMeta) { m.Role = 0 }),
		"foreign role":    crmMeta(func(m *pmpb.NodeMeta) { m.Role = 3 }),
		"no name":         crmMeta(func(m *pmpb.NodeMeta) { m.Name = "" }),
		"name of a CRM":   crmMeta(func(m *pmpb.NodeMeta) { m.Name = "edge.1" }),
		"name of a PM":    {Role: pmpb.NodeMeta_ROLE_PM, Name: "a/b"},
		"no address":      crmMeta(func(m *pmpb.NodeMeta) { m.GrpcAddress = "" }),
		"no port":         crmMeta(func(m *pmpb.NodeMeta) { m.GrpcAddress = "crm" }),
		"port 0":          crmMeta(func(m *pmpb.NodeMeta) { m.GrpcAddress = "crm:0" }),
		"URL":             crmMeta(func(m *pmpb.NodeMeta) { m.GrpcAddress = "http://crm:80" }),
		"line in region":  crmMeta(func(m *pmpb.NodeMeta) { m.Region = "a\nb" }),
		"long zone":       crmMeta(func(m *pmpb.NodeMeta) { m.Zone = strings.Repeat("z", 64) }),
		"invisible text":  crmMeta(func(m *pmpb.NodeMeta) { m.Version = "v\u200b1" }),
		"more than fits":  {Role: pmpb.NodeMeta_ROLE_PM, Name: strings.Repeat("n", 250), GrpcAddress: strings.Repeat("h", 250) + ":1", Region: strings.Repeat("r", 63)},
		"host with space": crmMeta(func(m *pmpb.NodeMeta) { m.GrpcAddress = "a b:1" }),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := discovery.EncodeMeta(m); err == nil {
				t.Error("encoded")
			}
			b, err := proto.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := discovery.DecodeMeta(b); err == nil {
				t.Error("decoded")
			}
		})
	}
	for name, b := range map[string][]byte{"nothing": nil, "garbage": {0xff}, "oversized": make([]byte, 513)} {
		if _, err := discovery.DecodeMeta(b); err == nil {
			t.Errorf("%s decoded", name)
		}
	}
}

func FuzzDecodeMeta(f *testing.F) {
	for _, m := range []*pmpb.NodeMeta{crmMeta(nil), {Role: pmpb.NodeMeta_ROLE_PM, Name: "pm"}} {
		b, err := discovery.EncodeMeta(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte{0x08, 0x02, 0x12})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := discovery.DecodeMeta(b)
		if err != nil {
			return
		}
		again, err := discovery.EncodeMeta(m)
		if err != nil {
			t.Fatalf("what was accepted cannot be said: %v: %v", m, err)
		}
		if got, err := discovery.DecodeMeta(again); err != nil || !proto.Equal(got, m) {
			t.Fatalf("%v became %v, %v", m, got, err)
		}
	})
}
