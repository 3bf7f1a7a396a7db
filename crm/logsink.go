package crm

import (
	"fmt"

	"github.com/go-logr/logr"
	"github.com/hashicorp/go-hclog"
)

// logSink lets the Kubernetes libraries, which log through logr, write to the
// program's own log. logr's verbosity 0 is info; everything above is debug or
// trace.
type logSink struct {
	log hclog.Logger
}

// newLogr wraps log for the Kubernetes libraries.
func newLogr(log hclog.Logger) logr.Logger {
	return logr.New(logSink{log: log})
}

// Init implements logr.LogSink.
func (logSink) Init(logr.RuntimeInfo) {}

// Enabled implements logr.LogSink.
func (s logSink) Enabled(level int) bool {
	switch {
	case level <= 0:
		return s.log.IsInfo()
	case level <= 2:
		return s.log.IsDebug()
	default:
		return s.log.IsTrace()
	}
}

// Info implements logr.LogSink.
func (s logSink) Info(level int, message string, pairs ...any) {
	switch {
	case level <= 0:
		s.log.Info(message, plain(pairs)...)
	case level <= 2:
		s.log.Debug(message, plain(pairs)...)
	default:
		s.log.Trace(message, plain(pairs)...)
	}
}

// Error implements logr.LogSink.
func (s logSink) Error(err error, message string, pairs ...any) {
	s.log.Error(message, append(plain(pairs), "error", err)...)
}

// WithValues implements logr.LogSink.
func (s logSink) WithValues(pairs ...any) logr.LogSink {
	return logSink{log: s.log.With(plain(pairs)...)}
}

// WithName implements logr.LogSink.
func (s logSink) WithName(name string) logr.LogSink {
	return logSink{log: s.log.Named(name)}
}

// plain turns values that would be printed as whole structures into text.
func plain(pairs []any) []any {
	out := make([]any, len(pairs))
	for i, value := range pairs {
		switch v := value.(type) {
		case error, string, bool, int, int32, int64, uint, uint32, uint64, float64:
			out[i] = v
		case fmt.Stringer:
			out[i] = v.String()
		case logr.Marshaler:
			out[i] = fmt.Sprint(v.MarshalLog())
		default:
			out[i] = fmt.Sprint(v)
		}
	}
	return out
}
