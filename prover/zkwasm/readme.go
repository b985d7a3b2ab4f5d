package zkwasm

import (
	"fmt"
	"strings"

	"app.provost/prover"
)

// Guide is what README.md of a group of nodes tells beside the nodes themselves.
type Guide struct {
	Dir   string
	Nodes []Node
	Host  prover.Host
	// Todo are commands that set hugepages; a line with # explains.
	Todo []string
	// Lacks is what else the machine lacks, in words.
	Lacks []string
	// Owned is set when the files with keys belong to the container's user already.
	Owned bool
}

// Readme says in order what is left to do. It holds no secret.
func (v Version) Readme(g Guide) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# zkWasm prover nodes, version %s\n\n", v.Name)
	if g.Host.Told {
		fmt.Fprintf(&b, "**The machine %s was not measured**: what is said about it was written down by somebody.\n\n", or(g.Host.Hostname, "they are for"))
	}
	b.WriteString("Nothing here is started yet.\n\n| Node | GPU | Address | Server |\n|---|---|---|---|\n")
	for _, n := range g.Nodes {
		fmt.Fprintf(&b, "| %s | %s %s | %s | %s |\n", n.Project, cell(or(n.GPU.Model, "GPU")), n.GPU.UUID, n.Address, cell(n.Server))
	}
	step := 0
	next := func(format string, args ...any) {
		step++
		fmt.Fprintf(&b, "\n## %d. %s\n\n", step, fmt.Sprintf(format, args...))
	}
	code := func(lines ...string) { b.WriteString("```sh\n" + strings.Join(lines, "\n") + "\n```\n") }

	if len(g.Lacks) > 0 {
		next("What the machine lacks")
		for _, l := range g.Lacks {
			fmt.Fprintf(&b, "- %s\n", l)
		}
	}
	if len(g.Todo) > 0 {
		next("Hugepages")
		code(g.Todo...)
	}
	if !g.Owned {
		next("Give the files with keys to the container's user")
		var lines []string
		for _, n := range g.Nodes {
			for _, f := range v.secretFiles() {
				lines = append(lines, fmt.Sprintf("sudo chown %d:%d %s", UID, UID, shell(g.Dir+"/"+n.Project+"/"+f)))
			}
		}
		code(lines...)
	}
	next("The image")
	if v.Built != "" {
		fmt.Fprintf(&b, "This version is built on the machine, from github.com/DelphinusLab/prover-node-docker at\n%s, by the repository's own script. Then give it its version:\n\n", v.Commit)
		code("docker tag " + v.Built + " " + v.Image)
	} else {
		code("docker pull "+v.Image, "docker image inspect --format '{{index .RepoDigests 0}}' "+v.Image+"   # note it: a tag can be moved")
	}
	next("Start, one node after the other")
	for _, n := range g.Nodes {
		at := g.Dir + "/" + n.Project
		code("sudo cp "+shell(at+"/"+v.UnitFile(n))+" /etc/systemd/system/", "sudo systemctl daemon-reload", "sudo systemctl enable --now "+v.UnitFile(n),
			"journalctl -fu "+v.UnitFile(n))
	}
	b.WriteString("\nWithout systemd: `docker compose up -d` in the node's directory; nothing restarts it then.\n")
	b.WriteString("The first start loads about 15 GB of merkle data: no task for a while is normal.\n")
	if v.DryRun {
		b.WriteString("The dry run starts before the node and uses the same server and key.\n")
	}
	next("See that the hub knows it")
	var lines []string
	if len(g.Nodes) > 0 {
		lines = append(lines, "curl -s "+g.Nodes[0].Server+"/config | grep -o '\"minimum_supported_node_version\":\"[^\"]*\"'   # not above "+v.Name)
	}
	for _, n := range g.Nodes {
		lines = append(lines, fmt.Sprintf("curl -s '%s/node_statistics?address=%s'", n.Server, n.Address))
	}
	code(lines...)
	b.WriteString("\n## Good to know\n\n")
	fmt.Fprintf(&b, "- The private key stands in `%s` (mode 0600) of each node's directory and nowhere else here. Keep a copy of it\n  elsewhere: the address that it gives is the node, with its level and its earnings. Never run it twice.\n", strings.Join(v.secretFiles(), "` and `"))
	fmt.Fprintf(&b, "- Each node takes %d hugepages (%d MiB) for good and starts with %d MiB of memory available beside them.\n", v.Needs.Pages, v.Needs.Pages.MiB(), v.Needs.Memory)
	b.WriteString("- To start afresh when a node says \"memory allocation failed\": stop its unit, then\n  `docker volume rm PROJECT_workspace-volume`. Never prune volumes of the whole machine.\n")
	if v.Monitor {
		b.WriteString("- The project's own monitor needs its script (scripts/monitor.sh of the repository), ALERT_POST_URL in scripts/.env and\n  `docker compose --profile monitor up -d`. It gets the Docker socket, which is root on the machine.\n")
	}
	return []byte(b.String())
}

func (v Version) secretFiles() []string {
	if v.DryRun {
		return []string{ProverFile, DryRunFile}
	}
	return []string{ProverFile}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// cell keeps a text inside its table cell.
func cell(s string) string { return strings.NewReplacer("|", "\\|", "\n", " ", "`", "'").Replace(s) }

// shell quotes a path where a shell needs it.
func shell(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=./:,@%+", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
