//! What the linker is told beyond what cargo knows.

#[expect(clippy::disallowed_methods, reason = "a build script is told about its target by variables")]
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A static program moves itself to its place when it starts, by a table of a million bytes that then stay in memory;
    // packed it is a fiftieth of that. Debian 12's C library and all later ones read it.
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    if variable("CARGO_CFG_TARGET_OS") == "linux" && variable("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
