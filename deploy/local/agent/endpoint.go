package agent

import (
	"net"
	"sync"

	"google.golang.org/grpc"

	"oaas.io/control-plane/proto/oaaspb"
)

// services is what a manager serves.
type services interface {
	oaaspb.DeploymentServiceServer
	oaaspb.AgentServiceServer
	oaaspb.CrmInfoServiceServer
	oaaspb.HealthServiceServer
}

// endpoint is a listener and what serves it.
type endpoint struct {
	listener net.Listener
	// stop cuts off what the listener has accepted.
	stop func()
	done chan struct{}
	err  error
}

// open serves at an address. Without services connections are accepted and nothing is ever said on them.
func open(address string, s services) (*endpoint, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &endpoint{listener: listener, done: make(chan struct{})}
	if s == nil {
		p.mute()
		return p, nil
	}
	server := grpc.NewServer()
	oaaspb.RegisterDeploymentServiceServer(server, s)
	oaaspb.RegisterAgentServiceServer(server, s)
	oaaspb.RegisterCrmInfoServiceServer(server, s)
	oaaspb.RegisterHealthServiceServer(server, s)
	p.stop = server.Stop
	go func() {
		defer close(p.done)
		p.err = server.Serve(listener)
	}()
	return p, nil
}

// mute accepts connections and keeps them.
func (p *endpoint) mute() {
	var mu sync.Mutex
	var all []net.Conn
	p.stop = func() {
		_ = p.listener.Close() // the accepting goroutine ends with the error
		mu.Lock()
		defer mu.Unlock()
		for _, c := range all {
			_ = c.Close() // nothing was sent
		}
	}
	go func() {
		defer close(p.done)
		for {
			c, err := p.listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
		}
	}()
}

func (p *endpoint) close() error {
	p.stop()
	<-p.done
	return p.err
}
