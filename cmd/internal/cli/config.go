package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"

	"app.provost/cmd/internal/print"
	"app.provost/engine"
	"app.provost/engine/config"

	"github.com/spf13/cobra"
)

// ConfigSchema is the version of the JSON of "config view" and "config explain".
const ConfigSchema = "provost.config/1"

func (a *app) configPathCmd() *cobra.Command {
	return &cobra.Command{
		Use: "path", Short: "the files that are looked for, weakest first", Args: cobra.NoArgs,
		Example: `  provost config path`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := a.asJSON(false)
			if err != nil {
				return err
			}
			type file struct {
				Path   string        `json:"path"`
				Origin config.Origin `json:"origin"`
				State  string        `json:"state"` // read, missing, or why it cannot be read
			}
			var files []file
			for _, f := range a.configFiles() {
				state := "read"
				if h, err := os.Open(f.Path); errors.Is(err, fs.ErrNotExist) {
					state = "missing"
				} else if err != nil {
					state = err.Error()
				} else {
					h.Close()
				}
				files = append(files, file{f.Path, f.Origin, state})
			}
			if asJSON {
				return print.JSON(a.Stdout, struct {
					Schema string `json:"schema"`
					Files  []file `json:"files"`
				}{ConfigSchema, files})
			}
			for _, f := range files {
				fmt.Fprintf(a.Stdout, "%s\t%s\t%s\n", print.Clean(f.Path), f.Origin, print.Clean(f.State))
			}
			return nil
		},
	}
}

func (a *app) configViewCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "view", Short: "the configuration as it is decided, as YAML", Args: cobra.NoArgs,
		Example: `  provost config view
  provost config view -o json`,
	}
	addConfigFlags(c.Flags())
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := a.asJSON(false)
		if err != nil {
			return err
		}
		l, err := a.loadConfig(cmd)
		if err != nil {
			return err
		}
		if asJSON {
			return a.settings(l.Settings)
		}
		for _, s := range l.Settings {
			fmt.Fprintf(a.Stdout, "%s: %s\n", s.Key, yamlScalar(s.Value))
		}
		return nil
	}
	return c
}

func (a *app) settings(all []config.Setting) error {
	return print.JSON(a.Stdout, struct {
		Schema   string           `json:"schema"`
		Settings []config.Setting `json:"settings"`
	}{ConfigSchema, all})
}

// yamlScalar quotes what YAML would read as something else than the same text.
func yamlScalar(s string) string {
	if s == "" || strings.ContainsAny(s, ":#{}[]&*!|>'\"%@`, \t\n\\") || s[0] == '-' || s[0] == '?' || print.Clean(s) != s {
		return strconv.Quote(s)
	}
	return s
}

func (a *app) configExplainCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "explain [KEY...]", Short: "where each setting comes from, and what it beat",
		Example: `  provost config explain
  provost config explain jobs.lease`,
	}
	addConfigFlags(c.Flags())
	c.RunE = func(cmd *cobra.Command, args []string) error {
		asJSON, err := a.asJSON(false)
		if err != nil {
			return err
		}
		l, err := a.loadConfig(cmd)
		if err != nil {
			return err
		}
		chosen := l.Settings
		if len(args) > 0 {
			chosen = nil
			for _, name := range args {
				s, err := settingNamed(l.Settings, name)
				if err != nil {
					return err
				}
				chosen = append(chosen, s)
			}
		}
		if asJSON {
			return a.settings(chosen)
		}
		for _, s := range chosen {
			from := string(s.Origin)
			if s.Where != "" {
				from += " " + s.Where
			}
			fmt.Fprintf(a.Stdout, "%s: %s\t%s\n", s.Key, print.Clean(yamlScalar(s.Value)), print.Clean(from))
			for _, b := range s.Beaten {
				fmt.Fprintf(a.Stdout, "  beat %s\t%s %s\n", print.Clean(yamlScalar(b.Value)), b.Origin, print.Clean(b.Where))
			}
			if len(args) > 0 {
				for _, k := range config.Keys() {
					if k.Name == s.Key {
						fmt.Fprintf(a.Stdout, "  %s\n  variable %s", k.Help, k.Env())
						if k.Flag != "" {
							fmt.Fprintf(a.Stdout, ", flag --%s", k.Flag)
						}
						fmt.Fprintf(a.Stdout, ", default %s\n", orNone(k.Default()))
					}
				}
			}
		}
		return nil
	}
	return c
}

func (a *app) configKeysCmd() *cobra.Command {
	c := &cobra.Command{
		Use: "keys", Short: "the dashboard's keys, with those of the configuration", Args: cobra.NoArgs,
		Long: `Each binding has a name, and in the configuration file its keys can be set:

  keys:
    worker.pause: x
    freeze: [f, f9]

One key for two things is an error, when the dashboard starts and here (exit code 2). ctrl+c, ctrl+z and
ctrl+l always mean the same.`,
		Example: `  provost config keys
  provost config keys -o json | jq '.keys[] | select(.changed)'`,
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if a.KeyTable == nil {
			return notHere()
		}
		asJSON, err := a.asJSON(false)
		if err != nil {
			return err
		}
		l, err := a.loadConfig(cmd)
		if err != nil {
			return err
		}
		rows, err := a.KeyTable(l.Keys)
		if err != nil {
			return err
		}
		if asJSON {
			return print.JSON(a.Stdout, struct {
				Schema string   `json:"schema"`
				Keys   []KeyRow `json:"keys"`
			}{ConfigSchema, rows})
		}
		w := tabwriter.NewWriter(a.Stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "VIEW\tNAME\tKEYS\tDOES")
		for _, r := range rows {
			view, does := r.View, r.Does
			if view == "" {
				view = "everywhere"
			}
			if r.Changed {
				does += " (changed)"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", view, r.Name, strings.Join(r.Keys, " "), strings.TrimSpace(does))
		}
		return w.Flush()
	}
	return c
}

func settingNamed(all []config.Setting, name string) (config.Setting, error) {
	var names []string
	for _, s := range all {
		if s.Key == name {
			return s, nil
		}
		names = append(names, s.Key)
	}
	remedy := "see provost config explain"
	if near := engine.Nearest(name, names); near != "" {
		remedy = fmt.Sprintf("did you mean %q?", near)
	}
	return config.Setting{}, usage("config explain", fmt.Sprintf("there is no setting %q", name), remedy)
}

func (a *app) configValidateCmd() *cobra.Command {
	return &cobra.Command{
		Use: "validate [FILE]", Short: "check the configuration, or one file; exit code 2 if something is wrong", Args: cobra.MaximumNArgs(1),
		Example: `  provost config validate
  provost config validate ./provost.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var l config.Loaded
			var err error
			if len(args) == 1 {
				l, err = config.Load(config.Sources{Files: []config.File{{Path: args[0], Origin: config.FromUser, Must: true}}})
			} else {
				l, err = a.loadConfig(cmd)
			}
			if err == nil && a.KeyTable != nil {
				_, err = a.KeyTable(l.Keys)
			}
			if err != nil {
				return err
			}
			a.say("valid")
			return nil
		},
	}
}

func (a *app) configDefaultCmd() *cobra.Command {
	return &cobra.Command{
		Use: "default", Short: "every setting with its default, as a YAML file to begin with", Args: cobra.NoArgs,
		Example: `  provost config default > ~/.config/provost/provost.yaml`,
		RunE: func(*cobra.Command, []string) error {
			for _, k := range config.Keys() {
				fmt.Fprintf(a.Stdout, "# %s\n# variable %s", k.Help, k.Env())
				if k.Flag != "" {
					fmt.Fprintf(a.Stdout, ", flag --%s", k.Flag)
				}
				fmt.Fprintf(a.Stdout, "\n#%s: %s\n\n", k.Name, yamlScalar(k.Default()))
			}
			return nil
		},
	}
}
