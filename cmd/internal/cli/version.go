package cli

import (
	"fmt"
	"runtime/debug"

	"app.provost/cmd/internal/print"
	"app.provost/cmd/internal/sbom"

	"github.com/spf13/cobra"
)

func (a *app) versionCmd() *cobra.Command {
	var asJSON, bill bool
	c := &cobra.Command{
		Use: "version", Short: "what this binary is", Args: cobra.NoArgs,
		Example: `  provost version
  provost version --json`,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, as -o json")
	c.Flags().BoolVar(&bill, "sbom", false, "print the bill of materials that the linker recorded (CycloneDX)")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		asJSON, err := a.asJSON(asJSON)
		if err != nil {
			return err
		}
		v := a.Version
		if bill {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return fmt.Errorf("print bill of materials: this binary was built without module information")
			}
			return sbom.Write(a.Stdout, info, v.Version)
		}
		if asJSON {
			return print.JSON(a.Stdout, struct {
				Schema string `json:"schema"`
				Version
			}{"provost.version/1", v})
		}
		fmt.Fprintf(a.Stdout, "provost %s", v.Version)
		for _, s := range []string{v.Commit, v.Date, v.Go, v.Platform} {
			if s != "" {
				fmt.Fprintf(a.Stdout, "  %s", s)
			}
		}
		fmt.Fprintln(a.Stdout)
		return nil
	}
	return c
}

func (a *app) completionCmd() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use: "completion bash|zsh|fish", Short: "a script that completes commands in a shell",
		Long: `Ids come from the running engine, if it answers within 200 ms.`,
		Example: `  source <(provost completion bash)
  provost completion zsh > "${fpath[1]}/_provost"`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("completion", "a shell is missing after it", "one of: bash, zsh, fish")
			}
			return nil
		},
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.Stdout)
			case "fish":
				return root.GenFishCompletion(a.Stdout, true)
			}
			return usage("completion", fmt.Sprintf("there is no shell %q", args[0]), "one of: bash, zsh, fish")
		},
	}
}
