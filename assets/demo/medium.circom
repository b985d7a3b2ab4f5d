pragma circom 2.1.6;

include "mimc.circom";

// medium: I know a leaf of the Merkle tree with this `root`, and `tag` is bound to it.
template Membership(depth, rounds) {
    signal input secret;
    signal input sibling[depth];
    signal input right[depth];
    signal input topic;
    signal output root;
    signal output tag;

    component h[depth];
    signal node[depth + 1];
    signal swap[depth];
    node[0] <== secret;
    for (var i = 0; i < depth; i++) {
        right[i] * (right[i] - 1) === 0;
        swap[i] <== right[i] * (sibling[i] - node[i]);
        h[i] = Compress(rounds);
        h[i].left <== node[i] + swap[i];
        h[i].right <== sibling[i] - swap[i];
        node[i + 1] <== h[i].out;
    }
    root <== node[depth];

    component t = Compress(rounds);
    t.left <== secret;
    t.right <== topic;
    tag <== t.out;
}

component main {public [topic]} = Membership(11, 110);
