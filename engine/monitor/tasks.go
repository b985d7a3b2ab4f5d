package monitor

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxTasks bounds the names that get a series of their own. Names come from the
// code, so more than this means that one was built from data; those are counted
// together as "other".
const maxTasks = 256

// Tasks counts named tasks: a gauge of those that run and a histogram of how long
// they took. Its two methods are what a life of tasks calls; they do not block.
type Tasks struct {
	running *prometheus.GaugeVec
	took    *prometheus.HistogramVec

	mu    sync.Mutex
	names map[string]bool
}

var (
	taskRunning = prometheus.GaugeOpts{Name: "provost_task_running", Help: "Tasks of this name that run now."}
	taskTook    = prometheus.HistogramOpts{Name: "provost_task_duration_seconds", Help: "How long tasks of this name ran, by how they ended: ok or error (a panic too).",
		Buckets: []float64{0.001, 0.01, 0.1, 1, 10, 60, 600, 3600, 86400}}
)

// NewTasks makes the counters.
func NewTasks() *Tasks {
	return &Tasks{
		running: prometheus.NewGaugeVec(taskRunning, []string{"task"}),
		took:    prometheus.NewHistogramVec(taskTook, []string{"task", "outcome"}),
		names:   map[string]bool{},
	}
}

// TaskStarted counts a task in.
func (t *Tasks) TaskStarted(name string) { t.running.WithLabelValues(t.name(name)).Inc() }

// TaskEnded counts it out.
func (t *Tasks) TaskEnded(name string, took time.Duration, err error) {
	name = t.name(name)
	outcome := "ok"
	if err != nil {
		outcome = "error"
	}
	t.running.WithLabelValues(name).Dec()
	t.took.WithLabelValues(name, outcome).Observe(took.Seconds())
}

func (t *Tasks) name(s string) string {
	s = strings.ToValidUTF8(s, "?")
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.names[s] {
		return s
	}
	if len(t.names) >= maxTasks {
		return "other"
	}
	t.names[s] = true
	return s
}

// Describe and Collect make Tasks a prometheus.Collector.
func (t *Tasks) Describe(ch chan<- *prometheus.Desc) {
	t.running.Describe(ch)
	t.took.Describe(ch)
}

func (t *Tasks) Collect(ch chan<- prometheus.Metric) {
	t.running.Collect(ch)
	t.took.Collect(ch)
}
