pragma circom 2.1.6;

include "mimc.circom";

// small: I know four numbers that hash to `digest`.
template Preimage(n, rounds) {
    signal input secret[n];
    signal output digest;

    component h[n - 1];
    for (var i = 0; i < n - 1; i++) {
        h[i] = Compress(rounds);
        h[i].left <== i == 0 ? secret[0] : h[i - 1].out;
        h[i].right <== secret[i + 1];
    }
    digest <== h[n - 2].out;
}

component main = Preimage(4, 110);
