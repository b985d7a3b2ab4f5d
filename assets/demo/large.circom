pragma circom 2.1.6;

// large: `end` is what `start` becomes after so many steps of x <- x * x + salt.
template Chain(steps) {
    signal input start;
    signal input salt;
    signal output end;

    signal x[steps + 1];
    x[0] <== start;
    for (var i = 0; i < steps; i++) {
        x[i + 1] <== x[i] * x[i] + salt;
    }
    end <== x[steps];
}

component main {public [start]} = Chain(7000);
