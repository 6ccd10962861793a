//! A plain WASI command that knows nothing of the cluster: prints a greeting and its arguments.
#![forbid(unsafe_code)]

fn main() {
    println!("hello from a plain command");
    for argument in std::env::args().skip(1) {
        println!("{argument}");
    }
}
