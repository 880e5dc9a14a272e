//! Objects from files: YAML or JSON, several documents to a file, lists, whole directories, standard input.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use redoubt_crds::condition::Reason;
use redoubt_policy::Problem;
use serde_json::Value;

use crate::error::Error;
use crate::objects::{self, Found, Key, Object, Objects, Scope};
use crate::schema::Schemas;

/// Most bytes of one file.
const FILE_MAX: u64 = 16 * 1024 * 1024;

/// What was read.
#[derive(Default)]
pub struct Read {
    /// The objects.
    pub objects: Objects,
    /// What could not be read as an object of its kind.
    pub problems: Vec<Found>,
    /// How many objects are of kinds that are none of ours.
    pub foreign: usize,
}

/// Reads files and directories; `-` is standard input. Objects without a namespace are put into `namespace`.
///
/// # Errors
/// When a file or directory cannot be read.
pub fn read(paths: &[PathBuf], namespace: &str) -> Result<Read, Error> {
    let schemas = Schemas::shipped()?;
    let mut read = Read::default();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            std::io::stdin().take(FILE_MAX).read_to_string(&mut text).map_err(Error::Terminal)?;
            read.add_text(&text, "(standard input)", namespace, &schemas);
            continue;
        }
        for file in files_of(path)? {
            let unreadable = |error| Error::File { path: file.clone(), error };
            if std::fs::metadata(&file).map_err(unreadable)?.len() > FILE_MAX {
                return Err(unreadable(std::io::Error::other("the file is larger than 16 MiB")));
            }
            let text = std::fs::read_to_string(&file).map_err(unreadable)?;
            read.add_text(&text, &file.display().to_string(), namespace, &schemas);
        }
    }
    Ok(read)
}

/// The file itself, or the files of the directory and those below it, sorted. What is hidden is left out, and links to
/// directories are not followed.
fn files_of(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |error| Error::File { path: path.to_owned(), error };
    if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    let mut entries: Vec<_> =
        std::fs::read_dir(path).and_then(Iterator::collect::<Result<_, _>>).map_err(unreadable)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let below = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().map_err(unreadable)?.is_dir() {
            found.extend(files_of(&below)?);
        } else if below.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json") {
            found.push(below);
        }
    }
    Ok(found)
}

impl Read {
    fn add_text(&mut self, text: &str, file: &str, namespace: &str, schemas: &Schemas) {
        match serde_saphyr::from_multiple::<Value>(text) {
            Ok(documents) => {
                for document in documents {
                    self.add(document, file, namespace, schemas);
                }
            }
            Err(error) => {
                // The first line says what and where; a picture of the place follows.
                let why = error.to_string();
                let why = why.lines().next().unwrap_or_default().trim_start_matches("error: ");
                self.refuse(
                    file,
                    file,
                    "",
                    format!("the file is not YAML or JSON: {why}"),
                    "Correct the file.",
                );
            }
        }
    }

    fn add(&mut self, mut value: Value, file: &str, namespace: &str, schemas: &Schemas) {
        let text =
            |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
        if version.is_empty() || kind.is_empty() {
            let help = "Give apiVersion and kind, or keep the file elsewhere.";
            self.refuse(file, file, "", "a document has no apiVersion or no kind".to_owned(), help);
            return;
        }
        if kind.ends_with("List") && value.get("items").is_some_and(Value::is_array) {
            if let Some(Value::Array(items)) = value.get_mut("items").map(Value::take) {
                for item in items {
                    self.add(item, file, namespace, schemas);
                }
            }
            return;
        }
        let object = format!("{kind}/{name}");
        let wanted = objects::api_version(&kind);
        if wanted.as_ref() != Some(&version) {
            match wanted {
                _ if !objects::is_ours(&version) => self.foreign += 1,
                Some(wanted) => self.refuse(
                    file,
                    &object,
                    "apiVersion",
                    format!("{kind} is not of {version}"),
                    &format!("Write apiVersion: {wanted}."),
                ),
                None => self.refuse(
                    file,
                    &object,
                    "kind",
                    format!("{version} has no kind {kind} that people write"),
                    "Correct its name; docs/reference/api.md lists the kinds.",
                ),
            }
            return;
        }
        if name.is_empty() {
            self.refuse(file, &object, "metadata.name", "the object has no name".to_owned(), "Give it one.");
            return;
        }
        let mut place = String::new();
        if objects::scope(&kind) == Some(Scope::Namespaced) {
            place = match text("/metadata/namespace") {
                given if given.is_empty() => namespace.to_owned(),
                given => given,
            };
            if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
                metadata.insert("namespace".to_owned(), Value::String(place.clone()));
            }
        }
        let problems = schemas.problems(&kind, &name, &value);
        self.problems.extend(problems.into_iter().map(|problem| Found {
            namespace: place.clone(),
            file: Some(file.to_owned()),
            problem,
        }));
        let key = Key { kind, namespace: place, name };
        if let Some(other) = self.objects.0.get(&key) {
            let other = other.file.clone().unwrap_or_default();
            self.refuse(
                file,
                &object,
                "metadata.name",
                format!("{key} is in {other} too"),
                "Keep one of them.",
            );
            return;
        }
        self.objects.0.insert(key, Object { value, file: Some(file.to_owned()) });
    }

    fn refuse(&mut self, file: &str, object: &str, field: &str, message: String, help: &str) {
        self.problems.push(Found {
            namespace: String::new(),
            file: Some(file.to_owned()),
            problem: Problem::new(Reason::Invalid.as_str(), object, field, message, help),
        });
    }
}
