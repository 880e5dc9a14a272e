//! Prints the CustomResourceDefinitions into a folder, one YAML file per kind: `cargo run -p redoubt-crds -- crds/yaml`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("usage: redoubt-crds FOLDER")?);
    std::fs::create_dir_all(&folder)?;
    for (name, text) in redoubt_crds::yaml::files()? {
        std::fs::write(folder.join(name), text)?;
    }
    Ok(())
}
