package zkwasm

import (
	"bytes"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// home is where the node's files lie in its container.
const home = "/home/zkwasm/prover-node-release/"

type composeFile struct {
	Services ordered[service]  `yaml:"services"`
	Volumes  ordered[struct{}] `yaml:"volumes"`
}

type service struct {
	Image       string            `yaml:"image"`
	Profiles    []string          `yaml:"profiles,omitempty"`
	Runtime     string            `yaml:"runtime,omitempty"`
	NetworkMode string            `yaml:"network_mode,omitempty"`
	User        string            `yaml:"user,omitempty"`
	WorkingDir  string            `yaml:"working_dir,omitempty"`
	CPUSet      string            `yaml:"cpuset,omitempty"`
	Restart     string            `yaml:"restart,omitempty"`
	Command     []string          `yaml:"command,omitempty,flow"`
	Environment map[string]string `yaml:"environment,omitempty"`
	DependsOn   ordered[depends]  `yaml:"depends_on,omitempty"`
	Deploy      *deploy           `yaml:"deploy,omitempty"`
	Volumes     []string          `yaml:"volumes,omitempty"`
	HealthCheck *health           `yaml:"healthcheck,omitempty"`
	Logging     *logging          `yaml:"logging,omitempty"`
}

type depends struct {
	Condition string `yaml:"condition"`
}

type deploy struct {
	Resources struct {
		Reservations struct {
			Devices []device `yaml:"devices"`
		} `yaml:"reservations"`
	} `yaml:"resources"`
}

type device struct {
	Driver       string   `yaml:"driver"`
	IDs          []string `yaml:"device_ids,flow"`
	Capabilities []string `yaml:"capabilities,flow"`
}

type health struct {
	Test        string `yaml:"test"`
	Interval    string `yaml:"interval"`
	StartPeriod string `yaml:"start_period"`
	Timeout     string `yaml:"timeout"`
	Retries     int    `yaml:"retries"`
}

type logging struct {
	Driver  string            `yaml:"driver"`
	Options map[string]string `yaml:"options"`
}

// ordered is a mapping that is written in the order in which it was filled.
type ordered[T any] []named[T]

type named[T any] struct {
	name string
	v    T
}

// MarshalYAML keeps the order.
func (o ordered[T]) MarshalYAML() (any, error) {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, e := range o {
		var v yaml.Node
		if err := v.Encode(e.v); err != nil {
			return nil, err
		}
		n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: e.name}, &v)
	}
	return n, nil
}

// IsZero lets omitempty leave it out.
func (o ordered[T]) IsZero() bool { return len(o) == 0 }

// compose says which containers make a node, as the version's repository does, but
// for what is unsafe or breaks with a second node: the device is named by its UUID
// (an index changes over reboots), images have a tag, and names come from the project.
func (v Version) compose(n Node) ([]byte, error) {
	logs := &logging{Driver: "json-file", Options: map[string]string{"max-size": "10m", "max-file": "5"}}
	node := service{
		Image: v.Image, Runtime: "nvidia", NetworkMode: "host", User: fmt.Sprintf("%d:%d", UID, UID), WorkingDir: home[:len(home)-1], CPUSet: n.CPUs,
		Command: []string{"/bin/sh", home + StartFile}, Environment: map[string]string{"TZ": "Etc/UTC"}, Logging: logs,
		Volumes: []string{"./" + ProverFile + ":" + home + ProverFile},
	}
	node.Deploy = &deploy{}
	node.Deploy.Resources.Reservations.Devices = []device{{Driver: "nvidia", IDs: []string{n.GPU.UUID}, Capabilities: []string{"gpu"}}}
	volumes := ordered[struct{}]{{name: "workspace-volume"}, {name: "prover-logs-volume"}}
	var c composeFile

	if v.DryRun {
		node.Volumes = append(node.Volumes, "./"+DryRunFile+":"+home+DryRunFile)
	}
	if v.SystemConfig {
		node.Volumes = append(node.Volumes, "./"+SystemFile+":"+home+SystemFile)
	}
	node.Volumes = append(node.Volumes, "workspace-volume:"+home+"workspace")
	if v.Store != StoreMongo {
		node.Volumes = append(node.Volumes, "rocksdb_data:"+home+"rocksdb")
		volumes = append(volumes, named[struct{}]{name: "rocksdb_data"})
	}
	common := append([]string{}, node.Volumes...) // what the dry run sees too
	node.Volumes = append(node.Volumes, "prover-logs-volume:"+home+"logs/prover", "/dev/hugepages:/dev/hugepages", "./"+StartFile+":"+home+StartFile+":ro")

	switch v.Store {
	case StoreMongo:
		volumes = append(volumes, named[struct{}]{name: "mongodb_data"})
		c.Services = append(c.Services, named[service]{"mongodb", service{
			Image: v.StoreImage, NetworkMode: "host", Command: []string{"--port", "27017", "--wiredTigerCacheSizeGB", "7"},
			Environment: map[string]string{"MONGO_INITDB_PORT": "27017"}, Volumes: []string{"mongodb_data:/data/db"}, Logging: logs,
			HealthCheck: &health{Test: `mongosh --port 27017 --quiet --eval 'if (db.adminCommand({ping: 1}).ok && db.init_status.findOne({_id: "init"}) != null) { quit(0) } else { quit(1) }'`,
				Interval: "30s", StartPeriod: "20s", Timeout: "10s", Retries: 10000},
		}})
	case StoreFilled:
		c.Services = append(c.Services, named[service]{"rocksdb", service{Image: v.StoreImage, Restart: "no", Volumes: []string{"rocksdb_data:/rocksdb_data"}, Logging: logs}})
	}
	if v.ParamsFTP {
		c.Services = append(c.Services, named[service]{"params-ftp", service{
			Image: "zkwasm/params", NetworkMode: "host", Logging: logs,
			// The image's own account, known to everybody; it serves public parameters.
			Environment: map[string]string{"PUBLICHOST": "localhost", "FTP_USER_NAME": "ftpuser", "FTP_USER_PASS": "ftppassword", "FTP_USER_HOME": "/home/ftpuser"},
			HealthCheck: &health{Test: "ls -l /var/run/pure-ftpd.pid", Interval: "30s", StartPeriod: "5s", Timeout: "10s", Retries: 3},
		}})
	}
	if v.DryRun {
		volumes = append(volumes, named[struct{}]{name: "dry-run-logs-volume"})
		args := []string{"./target/release/zkwasm-playground", "--dryrunconfig", DryRunFile, "-w", "workspace", "--dryrun=prover"}
		after := ordered[depends]{{"mongodb", depends{"service_healthy"}}}
		if v.Store != StoreMongo {
			args = append(args, "--rocksdbworkspace", "rocksdb")
			after = ordered[depends]{{"rocksdb", depends{"service_completed_successfully"}}}
		}
		c.Services = append(c.Services, named[service]{"prover-dry-run-service", service{
			Image: v.Image, Runtime: "nvidia", NetworkMode: "host", User: node.User, WorkingDir: node.WorkingDir, CPUSet: n.CPUs, DependsOn: after, Logging: logs,
			Environment: map[string]string{"TZ": "Etc/UTC", "RUST_LOG": "info", "NVIDIA_VISIBLE_DEVICES": n.GPU.UUID}, Command: args,
			Volumes:     append(common, "dry-run-logs-volume:"+home+"logs/dry_run", "/dev/hugepages:/dev/hugepages"),
			HealthCheck: &health{Test: "pgrep -f zkwasm-playground", Interval: "15s", StartPeriod: "15s", Timeout: "5s", Retries: 3},
		}})
		node.DependsOn = append(node.DependsOn, named[depends]{"prover-dry-run-service", depends{"service_healthy"}})
	}
	if v.ParamsFTP {
		node.DependsOn = append(node.DependsOn, named[depends]{"params-ftp", depends{"service_healthy"}})
	}
	c.Services = append(c.Services, named[service]{"prover-node", node})
	if v.Monitor {
		s := service{Image: "docker:27.5.1", Profiles: []string{"monitor"}, Command: []string{"/bin/sh", "-c", "apk add bash curl && bash monitor.sh"},
			DependsOn: ordered[depends]{{"prover-node", depends{"service_started"}}},
			Volumes:   []string{"/var/run/docker.sock:/var/run/docker.sock", "./scripts/.env:/.env"}}
		if v.MonitorFile {
			s.Volumes = append(s.Volumes, "./scripts/_monitor_config.sh:/_monitor_config.sh")
		}
		s.Volumes = append(s.Volumes, "./scripts/monitor.sh:/monitor.sh")
		c.Services = append(c.Services, named[service]{"monitor", s})
	}
	c.Volumes = volumes

	var b bytes.Buffer
	fmt.Fprintf(&b, `# The containers of the zkWasm prover node %s, version %s.
# Their shape is that of github.com/DelphinusLab/prover-node-docker at %.12s.
# The project name stands in .env: it keeps containers and volumes of several nodes apart.
# Nothing here restarts a container: the systemd unit beside this file does.
`, n.Project, v.Name, v.Commit)
	if v.Built != "" {
		fmt.Fprintf(&b, "# The image is built on the machine: see README.md.\n")
	}
	if v.Monitor {
		b.WriteString("# The monitor is off unless --profile monitor is given. It gets the Docker socket, which is root on the host.\n")
	}
	b.WriteString("\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(c); err != nil {
		return nil, fmt.Errorf("write %s: %w", ComposeFile, err)
	}
	return b.Bytes(), e.Close()
}
