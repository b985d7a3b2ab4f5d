pragma circom 2.1.6;

// I know two factors of `product`; `sum` is public too.
template Tiny() {
    signal input a;
    signal input b;
    signal input sum;
    signal output product;
    product <== a * b;
    sum === a + b;
}

component main {public [sum]} = Tiny();
