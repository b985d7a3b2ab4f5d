package print

import (
	"fmt"
	"io"
	"strings"
	"time"

	"app.provost/engine"
)

// DoctorSchema is the version of what "doctor --json" prints.
const DoctorSchema = "provost.doctor/1"

// Doctor is what "doctor --json" prints. State is the worst of the checks.
type Doctor struct {
	Schema string             `json:"schema"`
	At     *time.Time         `json:"at"` // of the snapshot; null: no engine answered
	State  engine.Health      `json:"state"`
	Checks []engine.Diagnosis `json:"checks"`
}

// DoctorOf makes the object.
func DoctorOf(s *engine.Snapshot, checks []engine.Diagnosis) Doctor {
	d := Doctor{Schema: DoctorSchema, State: engine.WorstHealth(checks), Checks: append([]engine.Diagnosis{}, checks...)}
	if s != nil {
		at := s.At.UTC()
		d.At = &at
	}
	return d
}

// DoctorExit is the exit code for a state, as "provost check" has them.
func DoctorExit(h engine.Health) int {
	switch h {
	case engine.HealthOK, engine.HealthNote:
		return NagiosOK
	case engine.HealthWarn:
		return NagiosWarning
	case engine.HealthCrit:
		return NagiosCritical
	}
	return NagiosUnknown
}

// DoctorText writes checks for a person: a line each, below it the evidence and,
// where something is to be mended, what to do.
func DoctorText(w io.Writer, checks []engine.Diagnosis, st Style) error {
	var b strings.Builder
	area := ""
	for _, c := range checks {
		if c.Area != area {
			if area != "" {
				b.WriteByte('\n')
			}
			area = c.Area
			fmt.Fprintln(&b, st.clean(strings.ToUpper(area)))
		}
		state := c.State
		if state == "" {
			state = engine.HealthUnknown
		}
		fmt.Fprintf(&b, "  %s  %s\n", st.paint(string(state), pad(st.clean(string(state)), 7, false)), st.clean(c.Title))
		more := func(name, text string) {
			if text != "" {
				fmt.Fprintf(&b, "           %s  %s\n", st.paint("head", pad(name, 8, false)), text)
			}
		}
		more("effect", st.clean(c.Effect))
		var facts []string
		for _, f := range c.Facts {
			facts = append(facts, st.clean(f.Name)+" "+st.clean(f.Value))
		}
		more("seen", strings.Join(facts, ", "))
		if len(c.Looked) > 0 {
			more("looked", "for "+st.clean(c.Looked))
		}
		for _, n := range c.Fix {
			text := st.clean(n.Text)
			if n.Command != "" {
				text += ": " + st.clean(n.Command)
			}
			more("fix", text)
		}
	}
	counts := map[engine.Health]int{}
	for _, c := range checks {
		counts[c.State]++
	}
	fmt.Fprintf(&b, "\n%d checks: %d ok", len(checks), counts[engine.HealthOK]+counts[engine.HealthNote])
	for _, h := range []engine.Health{engine.HealthCrit, engine.HealthWarn, engine.HealthUnknown} {
		if n := counts[h]; n > 0 {
			fmt.Fprintf(&b, ", %s", st.paint(string(h), fmt.Sprintf("%d %s", n, h)))
		}
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}
