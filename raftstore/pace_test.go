package raftstore

import (
	"testing"
	"testing/synctest"
	"time"
)

// slowWriter takes its time for each write.
type slowWriter time.Duration

func (s slowWriter) Write(b []byte) (int, error) {
	<-time.After(time.Duration(s)) // the time of a bubble of synctest
	return len(b), nil
}

func TestPacedWriterUsesHalfOfTheTime(t *testing.T) {
	tests := []struct {
		name                  string
		produce, write, total time.Duration
		hurry                 bool
	}{
		{name: "rests as long as it works", produce: 7 * time.Millisecond, write: 3 * time.Millisecond, total: 20 * time.Millisecond},
		{name: "rests no longer than allowed", produce: 5 * time.Second, total: 5*time.Second + longestRest},
		{name: "does not rest when the node stops", produce: 7 * time.Millisecond, write: 3 * time.Millisecond, total: 10 * time.Millisecond, hurry: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hurry := make(chan struct{})
				if tt.hurry {
					close(hurry)
				}
				w := newPacedWriter(slowWriter(tt.write), hurry)
				for range 3 {
					began := time.Now()
					<-time.After(tt.produce)
					if n, err := w.Write([]byte("abc")); n != 3 || err != nil {
						t.Fatalf("wrote %d: %v", n, err)
					}
					if took := time.Since(began); took != tt.total {
						t.Errorf("took %s, want %s", took, tt.total)
					}
				}
			})
		})
	}
}
