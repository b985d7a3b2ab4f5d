pragma circom 2.1.6;

// The permutation of MiMC with exponent 5 over the scalar field of BN254 in the mode of Miyaguchi and Preneel,
// as a workload: the shape is that of a real circuit, the round constants are made up here. Not a hash to use.

function nextConstant(c, i) {
    return c * c * c * c * c + 0x70726f766f73742064656d6f + i;
}

template Permute(rounds) {
    signal input x;
    signal input k;
    signal output out;

    signal square[rounds];
    signal fourth[rounds];
    signal state[rounds + 1];

    var c = 0;
    state[0] <== x;
    for (var i = 0; i < rounds; i++) {
        square[i] <== (state[i] + k + c) * (state[i] + k + c);
        fourth[i] <== square[i] * square[i];
        state[i + 1] <== fourth[i] * (state[i] + k + c);
        c = nextConstant(c, i);
    }
    out <== state[rounds] + k;
}

template Compress(rounds) {
    signal input left;
    signal input right;
    signal output out;

    component p = Permute(rounds);
    p.x <== left;
    p.k <== right;
    out <== p.out + left + right;
}
