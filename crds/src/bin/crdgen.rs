//! Writes the manifests of all custom resources: `crds/manifests`, which people read and compare, and the templates of
//! the chart `mainstay-crds`, which are installed.
//!
//! Both are generated and checked in. A test in here fails when they do not match the types.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// Why the manifests could not be written.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("Cargo has to run this: `make generate`")]
    NotByCargo,
    #[error("cannot write the definition {name} as YAML: {source}")]
    Yaml { name: String, source: serde_saphyr::ser::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

fn main() -> Result<(), Error> {
    for (path, text) in manifests()? {
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
            fs::write(&path, text)
        };
        write().map_err(|source| Error::Write { path: path.clone(), source })?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// Every file that follows from the types, with the text it should have.
fn manifests() -> Result<Vec<(PathBuf, String)>, Error> {
    // Asked of Cargo now: checkouts share what is built, and this may have been compiled in another.
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or(Error::NotByCargo)?);
    let mut files = Vec::new();
    for crd in mainstay_crds::all() {
        let file = format!("{}.{}.yaml", crd.spec.names.plural, crd.spec.group);
        files.push((root.join("manifests").join(&file), yaml(&crd)?));
        let template = yaml(&kept_on_uninstall(crd))?;
        files.push((root.join("../charts/mainstay-crds/templates").join(&file), template));
    }
    Ok(files)
}

/// The definition as the chart has it. Helm leaves it in place on uninstall, because to delete a definition
/// is to delete every object of its kind.
fn kept_on_uninstall(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let annotations = crd.metadata.annotations.get_or_insert_default();
    annotations.insert("helm.sh/resource-policy".into(), "keep".into());
    crd
}

fn yaml(crd: &CustomResourceDefinition) -> Result<String, Error> {
    let name = || crd.metadata.name.clone().unwrap_or_default();
    let body = serde_saphyr::to_string(crd).map_err(|source| Error::Yaml { name: name(), source })?;
    Ok(format!("# Generated from the types in crds/src by `make generate`. Do not edit.\n{body}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checked_in_manifests_follow_from_the_types() {
        for (path, text) in manifests().unwrap() {
            let found = fs::read_to_string(&path).unwrap_or_default();
            assert!(
                found == text,
                "{} is out of date: run `make generate` (`cargo run -p mainstay-crds --bin crdgen`)",
                path.display()
            );
        }
    }

    #[test]
    fn yaml_says_the_same_as_the_definition() {
        for crd in mainstay_crds::all() {
            let read: serde_json::Value = serde_saphyr::from_str(&yaml(&crd).unwrap()).unwrap();
            assert_eq!(read, serde_json::to_value(&crd).unwrap());
        }
    }

    #[test]
    fn helm_finds_nothing_to_expand() {
        for (path, text) in manifests().unwrap() {
            assert!(!text.contains("{{"), "{} would be expanded by Helm", path.display());
        }
    }
}
