//! How the module is linked, and which commit it says it is of: `scripts/build-native.sh` tells, so that a commit rebuilds
//! nothing else.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (name, otherwise) in [("MESHFILTER_COMMIT", "unknown"), ("MESHFILTER_COMMIT_TIME", "")] {
        println!("cargo::rerun-if-env-changed={name}");
        let value = std::env::var(name).unwrap_or_else(|_| otherwise.to_owned());
        println!("cargo::rustc-env={name}={value}");
    }
    match std::env::var("CARGO_CFG_TARGET_OS").as_deref() {
        // Its timer's thread and the workers' thread-locals outlive every configuration: it is never unloaded.
        Ok("linux") => println!("cargo::rustc-link-arg-cdylib=-Wl,-z,nodelete"),
        // The proxy that loads it has the callbacks.
        Ok("macos") => println!("cargo::rustc-link-arg-cdylib=-Wl,-undefined,dynamic_lookup"),
        _ => {}
    }
}
