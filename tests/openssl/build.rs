//! What the shared tests know this package by.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(openssl_tests)");
    println!("cargo::rustc-cfg=openssl_tests");
}
