//! How the proxy's program is linked.

#[allow(clippy::disallowed_methods)] // cargo speaks to a build script through its environment
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |what: &str| std::env::var(format!("CARGO_CFG_TARGET_{what}")).unwrap_or_default();
    // Half a megabyte of relocations becomes a bitmap. glibc's loader reads it since 2.36; an image brings its own.
    if target("OS") == "linux" && target("ENV") == "gnu" {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
