//! Compiles the wire contract with `protox`, so that nobody needs `protoc`.

#[allow(clippy::disallowed_methods)] // cargo speaks to a build script through its environment
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["proto/causeway.proto"], ["proto"])?;
    let grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(grpc)
        .build_server(grpc)
        .btree_map(".")
        .skip_debug(["causeway.v1.CertifyRequest"])
        .compile_fds(files)?;
    Ok(())
}
