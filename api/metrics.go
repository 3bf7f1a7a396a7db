package api

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
	panics   prometheus.Counter
	forwards *prometheus.CounterVec
	relays   *prometheus.CounterVec
	held     prometheus.Counter
	refused  *prometheus.CounterVec

	watchers         prometheus.Gauge
	watchEvents      prometheus.Counter
	watchesCompacted prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_http_requests_total", Help: "Answered HTTP requests.",
		}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "oaas_pm_http_request_duration_seconds", Help: "Time from the request's headers to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"route", "method"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oaas_pm_http_requests_in_flight", Help: "HTTP requests being answered, forwarded ones included.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oaas_pm_http_panics_total", Help: "Requests whose handler panicked.",
		}),
		forwards: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_http_forwards_total", Help: "Attempts to have the leader answer a request: answered, not-sent, refused, unknown.",
		}, []string{"result"}),
		relays: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_http_relays_total", Help: "Requests that another node was asked to answer: answered, not-sent, refused, unknown.",
		}, []string{"result"}),
		held: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oaas_pm_http_held_total", Help: "Requests that had to wait for a leader.",
		}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "oaas_pm_http_refused_connections_total", Help: "Connections that were given up before they had brought a request that a handler could answer.",
		}, []string{"reason"}),
		watchers: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "oaas_pm_watch_streams", Help: "Open streams of changes.",
		}),
		watchEvents: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oaas_pm_watch_events_total", Help: "Events that streams of changes were sent.",
		}),
		watchesCompacted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "oaas_pm_watch_compacted_total", Help: "Streams that ended because they were too slow for what the node remembers.",
		}),
	}
	for _, c := range []prometheus.Collector{
		m.requests, m.duration, m.inFlight, m.panics, m.forwards, m.relays, m.held, m.refused, m.watchers, m.watchEvents, m.watchesCompacted,
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("api: register metrics: %w", err)
		}
	}
	return m, nil
}
