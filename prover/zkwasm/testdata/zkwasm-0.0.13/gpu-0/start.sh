#!/bin/sh
# Runs inside the container of the prover node 0.0.13.
set -eu

if ! nvidia-smi -L; then
	echo "provost: the GPU cannot be reached from this container: see the driver, the container toolkit and the device in compose.yaml" >&2
	exit 1
fi

pages=$(awk '/^HugePages_Free:/ {print $2}' /proc/meminfo)
if [ "${pages:-0}" -lt 15000 ]; then
	echo "provost: ${pages:-0} free hugepages of 2 MiB, the node needs 15000: set vm.nr_hugepages on the host" >&2
	exit 1
fi

memory=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo)
if [ "${memory:-0}" -lt 81920 ]; then
	echo "provost: ${memory:-0} MiB of memory available beside the hugepages, the node needs 81920" >&2
	exit 1
fi

sudo chown -R 1001:1001 rocksdb

wget -r -nH -nv --cut-dirs=1 --no-parent --user=ftpuser --password=ftppassword ftp://localhost/params/ -P workspace/static/

CUDA_VISIBLE_DEVICES=0 RUST_LOG=info RUST_BACKTRACE=1 exec ./target/release/zkwasm-playground --config prover_config.json -w workspace --proversystemconfig prover_system_config.json -p --rocksdbworkspace rocksdb
