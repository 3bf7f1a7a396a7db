package fsm

import "oaas.io/control-plane/proto/pmpb"

// found gives the control plane its identity, once.
func found(c *call, op *pmpb.Found) error {
	if err := checkKey("cluster id", op.GetClusterId()); err != nil {
		return err
	}
	if c.meta.pb.GetClusterId() == "" {
		c.meta.pb.ClusterId = op.GetClusterId()
	}
	return nil
}
