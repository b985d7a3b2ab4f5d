package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"app.provost/cmd/internal/print"
	"app.provost/engine"

	"github.com/spf13/cobra"
)

func (a *app) doctorCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "doctor [AREA]", Short: "checks with their evidence, and what to do",
		Long: `Looks at what the engine knows: itself, how old each source of readings is, what each machine's
readings say or why there are none, workers, jobs, nodes, and every open alert with its facts.
It changes nothing. AREA is one of: ` + strings.Join(engine.Areas, ", ") + `.

Exit codes of this command, by the worst check: 0 ok, 1 warn, 2 crit (also when no engine answers), 3 unknown.`,
		Example: `  provost doctor
  provost doctor gpus
  provost doctor --json | jq '.checks[] | select(.state!="ok")'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage("doctor", fmt.Sprintf("%d words after it", len(args)), "name one area: "+strings.Join(engine.Areas, ", "))
			}
			_, err := areaNamed(args)
			return err
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return engine.Areas, cobra.ShellCompDirectiveNoFileComp
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, as -o json")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := a.asJSON(asJSON)
		if err != nil {
			return err
		}
		area, err := areaNamed(args)
		if err != nil {
			return err
		}
		ctx, stop := context.WithTimeout(cmd.Context(), answerLimit)
		defer stop()
		cmd.SetContext(ctx)
		s, err := a.checked(cmd)
		var checks []engine.Diagnosis
		if errors.Is(err, context.Canceled) {
			return err
		}
		if err != nil {
			// That nobody answers is a finding like the others, not the end of looking.
			p := engine.AsProblem("", err)
			d := engine.Diagnosis{Area: engine.AreaEngine, Target: "engine", State: engine.HealthUnknown, Title: p.Cause, Code: p.Code}
			if p.Code == engine.CodeNoEngine {
				d.State, d.Effect = engine.HealthCrit, "nothing can be shown or done; workers of a stopped engine go on with the job in hand"
			}
			if p.Remedy != "" {
				d.Fix = []engine.NextKey{{Text: p.Remedy}}
			}
			checks = []engine.Diagnosis{d}
		} else {
			checks = engine.Doctor(s, a.Now())
			if area != "" {
				checks = slices.DeleteFunc(checks, func(c engine.Diagnosis) bool { return c.Area != area })
			}
		}
		if len(checks) == 0 {
			checks = []engine.Diagnosis{{Area: area, Target: area, State: engine.HealthOK, Title: "this engine carries no " + area}}
		}
		if asJSON {
			err = print.JSON(a.Stdout, print.DoctorOf(s, checks))
		} else {
			err = print.DoctorText(a.Stdout, checks, a.style())
		}
		if err != nil {
			return err
		}
		if code := print.DoctorExit(engine.WorstHealth(checks)); code != print.NagiosOK {
			return Exit{engine.ExitCode(code)}
		}
		return nil
	}
	return c
}

// areaNamed reads the area, in the singular too; none is all.
func areaNamed(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	for _, area := range engine.Areas {
		if args[0] == area || args[0] == strings.TrimSuffix(area, "s") {
			return area, nil
		}
	}
	remedy := "one of: " + strings.Join(engine.Areas, ", ")
	if near := engine.Nearest(args[0], engine.Areas); near != "" {
		remedy = fmt.Sprintf("did you mean %q?", near)
	}
	return "", usage("doctor", fmt.Sprintf("there is no area %q", args[0]), remedy)
}
