//! Prints what is generated from the types, from the root of the repository:
//!
//! * `cargo run --package redoubt-crds -- crds/yaml`: the CustomResourceDefinitions, one YAML file per kind;
//! * `cargo run --package redoubt-crds -- --reference docs/reference/api.md`: the reference of the API.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--reference", file] => {
            let file = Path::new(file);
            std::fs::create_dir_all(file.parent().unwrap_or(Path::new(".")))?;
            std::fs::write(file, redoubt_crds::reference::markdown()?)?;
        }
        [folder] if !folder.starts_with('-') => {
            std::fs::create_dir_all(folder)?;
            for (name, text) in redoubt_crds::yaml::files()? {
                std::fs::write(Path::new(folder).join(name), text)?;
            }
        }
        _ => return Err("usage: redoubt-crds FOLDER | redoubt-crds --reference FILE".into()),
    }
    Ok(())
}
