package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"app.provost/engine"
	"app.provost/engine/flow"

	"github.com/spf13/cobra"
)

func (a *app) nodeExportCmd() *cobra.Command {
	var act engine.ExportNode
	c := &cobra.Command{
		Use: "export DIR", Short: "seal one node's directory into a file, to move the node or to keep a copy",
		Long: `DIR is the directory of a node. Everything that is the node goes into one file: its key, key shares
with their passwords, lock, deposit files, and one whole state of slashing protection, without which no
node travels. The file is sealed for recipients of age or SSH, or with a passphrase, and is an age file:
age -d opens it too.

Without --backup the node is moved: it must be stopped, and a note in DIR keeps provost from ever running
it there again, since two copies of a node can get validators slashed. Charon does not know the note, and
is seen to run only with its --private-key-file-lock: stop it yourself, and remove the keys it used.
With --backup the node may run and goes on. A node that is restored from a backup signs nothing for two
epochs, so that nothing can be contradicted that was signed after the backup.

Without --recipient and --passphrase-file the passphrase is asked for, twice. It comes by no other flag.`,
		Example: `  provost node export ./node2 --out node2.age --recipient age1…
  provost node export ./node2 --out node2.age --recipient "$(cat operator.pub)"
  provost node export ./node2 --out backup.age --backup --passphrase-file ~/.backup-passphrase
  pass provost | provost node export ./node2 --out backup.age --backup --passphrase-file -`,
		Args: cobra.MaximumNArgs(1),
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.StringVar(&act.Out, "out", "", "file to write; nothing may be there")
	fl.StringArrayVar(&act.Recipients, "recipient", nil, "who can open it: age1… or a public key of SSH; may be given again")
	fl.StringVar(&act.PassphraseFile, "passphrase-file", "", "file with a passphrase instead; - is standard input")
	fl.BoolVar(&act.Backup, "backup", false, "a copy to keep; the node goes on")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		act := act
		if err := lacking(cmd, lack{"DIR", len(args) == 0}, lack{"--out", act.Out == ""},
			lack{"--recipient or --passphrase-file", a.nobody(cmd) && len(act.Recipients) == 0 && act.PassphraseFile == ""}); err != nil {
			return err
		}
		if err := paths(path{"the directory", "dir", args[0], &act.Dir}, path{"the file", "out", act.Out, &act.Out}); err != nil {
			return err
		}
		done, err := a.passphrase(cmd, &act.PassphraseFile, len(act.Recipients) == 0, true)
		if err != nil {
			return err
		}
		defer done()
		return a.oneShot(cmd, act, nil)
	}
	a.guided(c, flow.NodeExport(), func(cmd *cobra.Command, act engine.Action) error { return a.oneShot(cmd, act, nil) })
	return c
}

func (a *app) nodeImportCmd() *cobra.Command {
	var act engine.ImportNode
	c := &cobra.Command{
		Use: "import FILE", Short: "unseal a node's directory and check it",
		Long: `FILE was written by provost node export. It is opened with the identity of age or SSH that it was
sealed for, or with its passphrase, which is asked for when neither flag is given. Names, sizes and hashes
are checked, then everything that provost verify cluster checks, then slashing protection; only then the
directory is put in place, in one step. What came from a backup, or from a move that is older than an
hour, waits two epochs at its first start.

--check does all of it, keystores opened, and removes the result again: a restore test.`,
		Example: `  provost node import node2.age --data-dir ./node2 --identity-file ~/.age/key.txt
  provost node import backup.age --check`,
		Args: cobra.MaximumNArgs(1),
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.StringVar(&act.Dir, "data-dir", "", "directory to make; nothing may be there")
	fl.StringVar(&act.IdentityFile, "identity-file", "", "identity of age, or private key of SSH, to open the file with")
	fl.StringVar(&act.PassphraseFile, "passphrase-file", "", "file with its passphrase instead; - is standard input")
	fl.BoolVar(&act.Check, "check", false, "only check that it can be restored; nothing stays")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		act := act
		if err := lacking(cmd, lack{"FILE", len(args) == 0}, lack{"--data-dir", act.Dir == "" && !act.Check},
			lack{"--identity-file or --passphrase-file", a.nobody(cmd) && act.IdentityFile == "" && act.PassphraseFile == ""}); err != nil {
			return err
		}
		list := []path{{"the file", "file", args[0], &act.File}}
		if act.Dir != "" || !act.Check {
			list = append(list, path{"the directory", "data-dir", act.Dir, &act.Dir})
		}
		if act.IdentityFile != "" {
			list = append(list, path{"the identity file", "identity-file", act.IdentityFile, &act.IdentityFile})
		}
		if err := paths(list...); err != nil {
			return err
		}
		done, err := a.passphrase(cmd, &act.PassphraseFile, act.IdentityFile == "", false)
		if err != nil {
			return err
		}
		defer done()
		return a.oneShot(cmd, act, nil)
	}
	a.guided(c, flow.NodeImport(), func(cmd *cobra.Command, act engine.Action) error { return a.oneShot(cmd, act, nil) })
	return c
}

// lack is something that a command cannot do without.
type lack struct {
	name string
	is   bool
}

// lacking tells all that a command lacks.
func lacking(cmd *cobra.Command, list ...lack) error {
	var missing []string
	for _, l := range list {
		if l.is {
			missing = append(missing, l.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return usage(words(cmd), "missing: "+strings.Join(missing, ", "), "see provost "+words(cmd)+" --help")
}

// nobody tells whether a command that acts has nobody to ask for a passphrase.
func (a *app) nobody(cmd *cobra.Command) bool {
	return a.capture == nil && !isPlanning(cmd) && !a.asks()
}

// path is one that must be given, and is made absolute.
type path struct {
	what, flag, text string
	into             *string
}

func paths(list ...path) error {
	for _, p := range list {
		if p.text == "" {
			return usageField(p.flag, p.what+" is empty", "name "+p.what)
		}
		abs, err := absolute(p.text)
		if err != nil {
			return err
		}
		*p.into = abs
	}
	return nil
}

// maxPassphrase bounds what is read from standard input; a pipe holds so much without a reader.
const maxPassphrase = 4096

// passphrase gets the path of a passphrase: a file's, or that of a pipe of this process that holds what
// was typed or came on standard input. It never touches the disk, and done closes it. With neither file
// nor need the path stays empty.
func (a *app) passphrase(cmd *cobra.Command, file *string, needed, twice bool) (done func(), err error) {
	done = func() {}
	switch {
	case a.capture != nil || *file == "" && !needed:
		if *file != "" && *file != "-" {
			*file, err = absolute(*file)
		}
		return done, err
	case *file == "-":
		raw, err := io.ReadAll(io.LimitReader(a.Stdin, maxPassphrase+1))
		if err != nil || len(raw) > maxPassphrase {
			return done, usageField("passphrase-file", fmt.Sprintf("--passphrase-file=-: standard input gives no passphrase of at most %d bytes", maxPassphrase), "give the passphrase and nothing else")
		}
		return a.pipe(string(raw), file)
	case *file != "":
		*file, err = absolute(*file)
		return done, err
	case isPlanning(cmd):
		// A plan needs to know that there will be one, not what it is.
		return a.pipe("", file)
	}
	for {
		one, err := a.askHidden(cmd.Context(), "passphrase: ")
		if err != nil {
			return done, hiddenProblem(err)
		}
		if twice && len([]rune(one.Reveal())) < minPassphrase {
			fmt.Fprintf(a.Stderr, "  it has fewer than %d characters; take several words that nobody could guess together\n", minPassphrase)
			continue
		}
		if twice {
			two, err := a.askHidden(cmd.Context(), "the same again: ")
			if err != nil {
				return done, hiddenProblem(err)
			}
			if one != two {
				fmt.Fprintln(a.Stderr, "  they differ")
				continue
			}
		}
		if one.IsZero() {
			continue
		}
		return a.pipe(one.Reveal(), file)
	}
}

// minPassphrase is the shortest that is asked for; the sealing refuses shorter ones too.
const minPassphrase = 12

func hiddenProblem(err error) error {
	if errors.Is(err, errNotHidden) {
		return usageField("passphrase-file", err.Error(), "give --passphrase-file")
	}
	return err
}

// pipe puts a text into a pipe and gives its path.
func (a *app) pipe(text string, path *string) (done func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return func() {}, engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: "hand on a passphrase"}.Because(err)
	}
	_, err = io.WriteString(w, text) // shorter than what a pipe holds
	if err = errors.Join(err, w.Close()); err != nil {
		r.Close()
		return func() {}, engine.Problem{Code: engine.CodeUnexpected, Exit: engine.ExitUnexpected, Doing: "hand on a passphrase"}.Because(err)
	}
	*path = fmt.Sprintf("%s%d", engine.TypedSecret, r.Fd())
	return func() { r.Close() }, nil
}
