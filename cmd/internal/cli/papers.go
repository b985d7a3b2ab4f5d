package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"app.provost/cmd/internal/print"
	"app.provost/engine"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// exitCodes is the table that documents the numbers of engine.ExitCode.
var exitCodes = []struct {
	Code    engine.ExitCode
	Meaning string
}{
	{engine.ExitOK, "done, or healthy"},
	{engine.ExitUnexpected, "unexpected error"},
	{engine.ExitUsage, "usage, configuration or answers not valid"},
	{engine.ExitNotAllowed, "not allowed: locked, read-only, rights, another engine holds the lock"},
	{engine.ExitRefused, "refused by a safety rule: old facts, pause limit, another plan than the one confirmed"},
	{engine.ExitDeclined, "not confirmed: declined, end of input, ctrl+c in a question"},
	{engine.ExitPartly, "partly done, or some checks failed; the list is on standard output"},
	{engine.ExitTimeout, "timed out; the act goes on, its id was printed"},
	{engine.ExitNoEngine, "no engine to talk to"},
	{engine.ExitPending, "plan --exit-code: something would be done"},
	{engine.ExitInterrupt, "ended by SIGINT"},
	{engine.ExitTerminated, "ended by SIGTERM, or because its terminal was closed"},
}

// checkCodes are those of "provost check".
var checkCodes = []struct {
	Code    int
	Meaning string
}{
	{print.NagiosOK, "OK: all that is configured works"},
	{print.NagiosWarning, "WARNING: something needs a look; work goes on"},
	{print.NagiosCritical, "CRITICAL: work is being lost, or no engine answers"},
	{print.NagiosUnknown, "UNKNOWN: readings are missing, or the engine did not answer properly"},
}

// ExitCodesPage is docs/exit-codes.md.
func ExitCodesPage() string {
	var b strings.Builder
	b.WriteString("# Exit codes\n\nMade from the program's tables by `go test ./cmd/internal/cli -run Docs -update`.\n\n| Code | Meaning |\n|---|---|\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", e.Code, e.Meaning)
	}
	b.WriteString("\n`provost check` and `provost doctor` have their own, as monitors in the style of Nagios want them:\n\n| Code | Meaning |\n|---|---|\n")
	for _, e := range checkCodes {
		fmt.Fprintf(&b, "| %d | %s |\n", e.Code, e.Meaning)
	}
	return b.String()
}

// papersTree is the tree that pages are made of: it holds no functions that do anything.
func papersTree() *cobra.Command { return newApp(Deps{}).tree() }

// CommandsPage is docs/commands.md.
func CommandsPage() string {
	root := papersTree()
	var b strings.Builder
	b.WriteString("# Commands\n\nMade from the command tree by `go test ./cmd/internal/cli -run Docs -update`.\n\n")
	b.WriteString("Verbs come first. Long flags have two dashes, a value after `=` or a space; `--` ends the flags; data goes to standard output, talk to standard error. [Exit codes](exit-codes.md).\n")
	b.WriteString("\n## Flags of every command\n\n")
	flagTable(&b, root.PersistentFlags())
	fmt.Fprintf(&b, "\nSet by a variable too, weaker than the flag: %s. Settings of the engine have variables as well, see `provost config default`.\n", "`"+strings.Join(envNames(), "`, `")+"`")
	walk(root, func(c *cobra.Command) {
		if c.Hidden || c.HasSubCommands() && c != root || isPlanning(c) && c.HasParent() && c.Name() != "plan" {
			return
		}
		commandSection(&b, c)
		if c.Name() == "plan" {
			return
		}
	})
	b.WriteString("\n## `provost plan`\n\n")
	plan, _, _ := root.Find([]string{"plan"})
	fmt.Fprintf(&b, "%s.\n\n```\n%s\n```\n\n%s\n\nTakes every act with its own flags: ", upper(plan.Short), strings.TrimRight(plan.Example, "\n"), strings.TrimSpace(plan.Long))
	var acts []string
	walk(plan, func(c *cobra.Command) {
		if !c.HasSubCommands() {
			acts = append(acts, "`"+words(c)+"`")
		}
	})
	b.WriteString(strings.Join(acts, ", ") + ". With `--exit-code` it exits with 10 if something would be done.\n")
	b.WriteString("\n## Columns and filters\n\nThe columns of `get`, its filters and `--sort`. Those in the second part are shown with `-o wide`, or by name.\n\n```\n" + engine.FilterHelp + "\n```\n")
	for _, t := range engine.Tables {
		fmt.Fprintf(&b, "\n### %s\n\n| Column | Key in CSV | Head | What |\n|---|---|---|---|\n", t.Name)
		for _, w := range []bool{false, true} {
			for _, c := range t.Columns {
				if c.Wide == w {
					fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", c.Name, c.Key(), c.Title, c.Doc)
				}
			}
		}
	}
	return b.String()
}

func envNames() []string {
	var out []string
	for _, f := range envFlags {
		out = append(out, envName(f))
	}
	return out
}

func commandSection(b *strings.Builder, c *cobra.Command) {
	fmt.Fprintf(b, "\n## `%s`\n\n%s.\n", strings.TrimSpace(c.CommandPath()), upper(c.Short))
	if c.Example != "" {
		fmt.Fprintf(b, "\n```\n%s\n```\n", strings.TrimRight(c.Example, "\n"))
	}
	fmt.Fprintf(b, "\nUsage: `%s`", useLine(c))
	if len(c.Aliases) > 0 {
		fmt.Fprintf(b, "; also: %s", strings.Join(c.Aliases, ", "))
	}
	b.WriteString("\n")
	if c.Long != "" {
		fmt.Fprintf(b, "\n%s\n", mdText(c.Long))
	}
	if fl := c.LocalNonPersistentFlags(); fl.HasAvailableFlags() {
		b.WriteString("\n")
		flagTable(b, fl)
	}
}

// mdText keeps indented lines as code.
func mdText(s string) string {
	var out []string
	code := false
	for line := range strings.SplitSeq(strings.TrimSpace(s), "\n") {
		in := strings.HasPrefix(line, "  ")
		if in != code {
			out = append(out, "```")
			code = in
		}
		out = append(out, strings.TrimPrefix(line, "  "))
	}
	if code {
		out = append(out, "```")
	}
	return strings.Join(out, "\n")
}

func flagTable(b *strings.Builder, fl *pflag.FlagSet) {
	b.WriteString("| Flag | What |\n|---|---|\n")
	fl.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", flagWord(f), strings.ReplaceAll(flagUsage(f), "|", `\|`))
	})
}

func flagWord(f *pflag.Flag) string {
	s := "--" + f.Name
	if f.Shorthand != "" {
		s = "-" + f.Shorthand + ", " + s
	}
	if t := f.Value.Type(); t != "bool" {
		s += " " + t
	}
	return s
}

func flagUsage(f *pflag.Flag) string {
	s := f.Usage
	switch f.DefValue {
	case "", "0", "false", "0s", "[]":
	default:
		s += " (default: " + f.DefValue + ")"
	}
	return s
}

// manual is one page.
type manual struct {
	name    string // "provost-up"
	section int
	text    string // roff
}

// roff escapes text for troff, which reads ASCII.
func roff(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r >= 0x80:
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	s = b.String()
	var out []string
	for line := range strings.SplitSeq(s, "\n") {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

func manHead(name string, section int, short string) string {
	return fmt.Sprintf(".TH %s %d \"\" \"provost\" \"Provost\"\n.SH NAME\n%s \\- %s\n", roff(strings.ToUpper(name)), section, roff(name), roff(short))
}

// manuals makes every page from the same tree and tables as the help.
func manuals(root *cobra.Command) []manual {
	var out []manual
	walk(root, func(c *cobra.Command) {
		if c.Hidden || c.HasSubCommands() && c != root && c.Name() != "plan" || c.HasParent() && isPlanning(c.Parent()) || c.Name() == "help" {
			return
		}
		name := strings.ReplaceAll(strings.TrimSpace(c.CommandPath()), " ", "-")
		var b strings.Builder
		b.WriteString(manHead(name, 1, c.Short))
		fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(useLine(c)))
		if c.Long != "" {
			fmt.Fprintf(&b, ".SH DESCRIPTION\n.nf\n%s\n.fi\n", roff(strings.TrimSpace(c.Long)))
		}
		if c.Example != "" {
			fmt.Fprintf(&b, ".SH EXAMPLES\n.nf\n%s\n.fi\n", roff(strings.TrimRight(c.Example, "\n")))
		}
		if kids := visible(c); len(kids) > 0 {
			b.WriteString(".SH COMMANDS\n")
			for _, k := range kids {
				fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(k.Name()), roff(k.Short))
			}
		}
		manFlags(&b, "OPTIONS", c.LocalNonPersistentFlags())
		if c == root {
			manFlags(&b, "OPTIONS OF EVERY COMMAND", c.PersistentFlags())
			b.WriteString(".SH SEE ALSO\nprovost\\-filter(7), provost\\-exit\\-codes(7)\n")
		}
		out = append(out, manual{name, 1, b.String()})
	})
	var b strings.Builder
	b.WriteString(manHead("provost-exit-codes", 7, "what the commands of provost end with"))
	b.WriteString(".SH CODES\n")
	for _, e := range exitCodes {
		fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", e.Code, roff(e.Meaning))
	}
	b.WriteString(".SH CODES OF PROVOST CHECK\n")
	for _, e := range checkCodes {
		fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", e.Code, roff(e.Meaning))
	}
	out = append(out, manual{"provost-exit-codes", 7, b.String()})
	b.Reset()
	b.WriteString(manHead("provost-filter", 7, "the filter language and the columns of provost"))
	fmt.Fprintf(&b, ".SH FILTER\n.nf\n%s\n.fi\n", roff(engine.FilterHelp))
	for _, t := range engine.Tables {
		fmt.Fprintf(&b, ".SH %s\n", roff(strings.ToUpper(string(t.Name))))
		for _, c := range t.Columns {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(c.Name), roff(c.Doc))
		}
	}
	return append(out, manual{"provost-filter", 7, b.String()})
}

func manFlags(b *strings.Builder, head string, fl *pflag.FlagSet) {
	first := true
	fl.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		if first {
			fmt.Fprintf(b, ".SH %s\n", head)
			first = false
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(flagWord(f)), roff(flagUsage(f)))
	})
}

func (a *app) manCmd() *cobra.Command {
	var dir string
	c := &cobra.Command{
		Use: "man [PAGE]", Short: "manual pages, for man -l or a directory", Args: cobra.ArbitraryArgs,
		Long: `Pages are the commands (provost man pause worker), exit-codes and filter.`,
		Example: `  provost man | man -l -
  provost man filter | man -l -
  provost man --dir ~/.local/share/man`,
	}
	c.Flags().StringVar(&dir, "dir", "", "write all pages below this directory, as DIR/man1/provost.1")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		all := manuals(cmd.Root())
		if dir == "" {
			want := strings.Join(append([]string{"provost"}, args...), "-")
			i := slices.IndexFunc(all, func(m manual) bool { return m.name == want })
			if i < 0 {
				var names []string
				for _, m := range all {
					names = append(names, strings.TrimPrefix(m.name, "provost-"))
				}
				return usage("man", fmt.Sprintf("there is no page %q", strings.Join(args, " ")), "pages: "+strings.Join(names, ", "))
			}
			_, err := fmt.Fprint(a.Stdout, all[i].text)
			return err
		}
		for _, m := range all {
			folder := filepath.Join(dir, fmt.Sprintf("man%d", m.section))
			if err := os.MkdirAll(folder, 0o755); err != nil {
				return unwritable("write manual", err)
			}
			if err := writeFile(filepath.Join(folder, fmt.Sprintf("%s.%d", m.name, m.section)), []byte(m.text), true); err != nil {
				return unwritable("write manual", err)
			}
		}
		a.say("%d pages written below %s", len(all), print.Clean(dir))
		return nil
	}
	return c
}

func unwritable(doing string, err error) error {
	return engine.Problem{Code: engine.CodeDirUnwritable, Exit: engine.ExitUsage, Doing: doing, Remedy: "name a directory that can be written"}.Because(err)
}

func (a *app) servicePrintCmd() *cobra.Command {
	var exe, user string
	c := &cobra.Command{
		Use: "print", Short: "a systemd unit for an engine", Args: cobra.NoArgs,
		Long: `Nothing is installed. Stopping the unit stops the engine and leaves the workers proving: an
upgrade must not cost a proof. "provost down --workers" stops them too.`,
		Example: `  provost service print | sudo tee /etc/systemd/system/provost.service
  sudo systemctl daemon-reload && sudo systemctl enable --now provost`,
	}
	c.Flags().StringVar(&exe, "exe", "/usr/local/bin/provost", "where the binary lies")
	c.Flags().StringVar(&user, "user", "provost", "user that it runs as")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if !filepath.IsAbs(exe) || strings.ContainsAny(exe, " \t\n\"'\\%$") {
			return usageField("exe", fmt.Sprintf("--exe=%q", exe), "want an absolute path without spaces, quotes, % or $")
		}
		if user == "" || strings.IndexFunc(user, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
		}) >= 0 {
			return usageField("user", fmt.Sprintf("--user=%q", user), "want a user's name")
		}
		fmt.Fprintf(a.Stdout, serviceUnit, user, exe)
		return nil
	}
	return c
}

const serviceUnit = `[Unit]
Description=Provost engine
Documentation=man:provost(1)
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
Type=notify
NotifyAccess=main
# The engine reports at least with every status line (--status-every, 1m).
WatchdogSec=180
User=%s
StateDirectory=provost
StateDirectoryMode=0700
RuntimeDirectory=provost
RuntimeDirectoryMode=0700
# The sockets stay while the engine is restarted, so that workers find it again.
RuntimeDirectoryPreserve=restart
ExecStart=%s up --no-tui --log-format=json --state-dir=/var/lib/provost/default --runtime-dir=/run/provost
# SIGTERM goes to the engine alone: it stops in order within ten seconds, and its
# workers prove on and are taken up again by the next one.
KillMode=process
TimeoutStopSec=30
# What it ends with after SIGTERM.
SuccessExitStatus=143
Restart=always
RestartSec=2
# 2: usage or configuration, 3: another engine holds the state. Trying again does not help.
RestartPreventExitStatus=2 3
LimitNOFILE=65536
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes

[Install]
WantedBy=multi-user.target
`
