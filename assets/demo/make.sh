#!/bin/sh
# Makes the files of the practice circuits again, in the directory it is started in (see README.md). Needs node, and
# the commands named by CIRCOM and SNARKJS.
set -eu
src=$(cd "$(dirname "$0")" && pwd)
CIRCOM=${CIRCOM:-npx circom2}
SNARKJS=${SNARKJS:-npx snarkjs}
# A beacon nobody waited for: "provost demo keys, celebrate nothing". Everyone knows it, so everyone can forge.
beacon=70726f766f73742064656d6f206b6579732c2063656c656272617465206e6f7468696e67

cp "$src"/*.circom .
if [ ! -f p14.ptau ]; then
	$SNARKJS powersoftau new bn128 14 p14_0.ptau
	$SNARKJS powersoftau beacon p14_0.ptau p14_1.ptau $beacon 10 -n=demo
	$SNARKJS powersoftau prepare phase2 p14_1.ptau p14.ptau
fi
for c in small medium large; do
	$CIRCOM $c.circom --r1cs --wasm -o .
	$SNARKJS groth16 setup $c.r1cs p14.ptau ${c}_0.zkey
	$SNARKJS zkey beacon ${c}_0.zkey $c.zkey $beacon 10 -n=demo
	$SNARKJS zkey verify $c.r1cs p14.ptau $c.zkey
	$SNARKJS zkey export verificationkey $c.zkey $c.vk.json
	for in in "$src"/inputs/$c-*.json; do
		w=$(basename "$in" .json)
		$SNARKJS wtns calculate ${c}_js/$c.wasm "$in" $w.wtns
	done
	gzip -9 -n -f -k $c.zkey $c-*.wtns
done
