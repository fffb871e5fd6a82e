//! Writes container images without a container daemon: one layer in an OCI archive (OCI image layout 1.0.0 in a tar
//! file), compressed as registries keep it. The same files give the same bytes.

use crate::error::{Context, Error, Result, output};
use flate2::{Compression, GzBuilder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};
use tar::{Builder, EntryType, Header};

/// What the image runs, and as whom.
#[derive(Debug, Clone, Default)]
pub struct Image {
    /// Full name with registry host and tag, for example `localhost/mainstay:dev`.
    pub name: String,
    /// Program to start, as an absolute path in the image; none when whoever runs it names one.
    pub entrypoint: Option<String>,
    /// `uid:gid`.
    pub user: String,
    /// `KEY=value` pairs.
    pub env: Vec<String>,
    /// Image labels.
    pub labels: BTreeMap<String, String>,
    /// Destination in the image (absolute) to source on this machine.
    pub files: BTreeMap<PathBuf, PathBuf>,
}

const PASSWD: &str = "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n";

impl Image {
    /// Adds the shared libraries that the files need, as `ldd` names them; static programs need none.
    pub fn add_libraries(&mut self) -> Result<()> {
        let sources: Vec<PathBuf> = self.files.values().cloned().collect();
        for source in sources {
            // ldd fails on static programs and on files that are none: those need no library.
            let Ok(text) = output(Command::new("ldd").env("LC_ALL", "C").arg(&source)) else { continue };
            if let Some(missing) = text.lines().find(|line| line.contains("not found")) {
                let problem = format!("{}: {}", source.display(), missing.trim());
                return Err(Error::Refused(problem));
            }
            self.files.extend(libraries(&text).map(|path| (path.clone(), path)));
        }
        Ok(())
    }

    /// Writes the archive to `path`, at once: a reader never sees half an image.
    pub fn write(&self, path: &Path) -> Result<()> {
        let Some((_, tag)) = self.name.rsplit_once(':').filter(|(host, _)| host.contains('/')) else {
            let sentence = format!("image name {:?} needs a host and a tag, like localhost/x:dev", self.name);
            return Err(Error::Refused(sentence));
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)
            .context(|| format!("cannot write in {}", folder.display()))?;
        self.write_archive(tag, file.as_file_mut())?;
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644))
            .and_then(|()| file.persist(path).map_err(|error| error.error))
            .context(|| format!("cannot write {}", path.display()))?;
        Ok(())
    }

    fn write_archive(&self, tag: &str, file: &mut File) -> Result<()> {
        let layer = self.layer()?;
        let diff = digest(&layer);
        let layer = compressed(&layer).context(|| "cannot compress the layer".into())?;
        let config = self.config(&diff).to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip", &layer)],
        });
        let manifest = manifest.to_string().into_bytes();
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
        // containerd names the image after the first, other tools after the second.
        entry["annotations"] =
            json!({"io.containerd.image.name": self.name, "org.opencontainers.image.ref.name": tag});
        let index = json!({"schemaVersion": 2, "manifests": [entry]}).to_string();

        let mut archive = Builder::new(file);
        let mut add = |name: &str, bytes: &[u8]| {
            append(&mut archive, Path::new(name), EntryType::Regular, 0o644, bytes)
                .context(|| "cannot write the image".into())
        };
        add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        add("index.json", index.as_bytes())?;
        for blob in [&config, &layer, &manifest] {
            add(&format!("blobs/sha256/{}", &digest(blob)["sha256:".len()..]), blob)?;
        }
        archive.into_inner().and_then(|file| file.flush()).context(|| "cannot write the image".into())
    }

    fn config(&self, diff: &str) -> Value {
        json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": architecture(),
            "os": "linux",
            "config": {
                "Entrypoint": self.entrypoint.iter().collect::<Vec<_>>(),
                "User": self.user,
                "Env": self.env,
                "WorkingDir": "/",
                "Labels": self.labels,
            },
            "rootfs": {"type": "layers", "diff_ids": [diff]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "mainstay-cluster"}],
        })
    }

    /// The layer's tar: /tmp, /etc/passwd and the files, sorted, each after its folders.
    fn layer(&self) -> Result<Vec<u8>> {
        let mut entries: BTreeMap<PathBuf, (EntryType, u32, Vec<u8>)> = BTreeMap::new();
        entries.insert("tmp".into(), (EntryType::Directory, 0o1777, Vec::new()));
        entries.insert("etc/passwd".into(), (EntryType::Regular, 0o644, PASSWD.into()));
        for (destination, source) in &self.files {
            let Ok(inside) = destination.strip_prefix("/") else {
                let sentence = format!("destination {} must be absolute", destination.display());
                return Err(Error::Refused(sentence));
            };
            let what = || format!("cannot read {}", source.display());
            let mode = fs::metadata(source).context(what)?.permissions().mode();
            let mode = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
            entries.insert(inside.into(), (EntryType::Regular, mode, fs::read(source).context(what)?));
        }
        let paths: Vec<PathBuf> = entries.keys().cloned().collect();
        for folder in paths.iter().flat_map(|path| path.ancestors().skip(1)) {
            if !folder.as_os_str().is_empty() {
                entries.entry(folder.into()).or_insert((EntryType::Directory, 0o755, Vec::new()));
            }
        }
        let mut archive = Builder::new(Vec::new());
        for (path, (kind, mode, bytes)) in &entries {
            append(&mut archive, path, *kind, *mode, bytes)
                .context(|| format!("cannot add {}", path.display()))?;
        }
        archive.into_inner().context(|| "cannot finish the layer".into())
    }
}

fn append<W: Write>(
    archive: &mut Builder<W>,
    path: &Path,
    kind: EntryType,
    mode: u32,
    bytes: &[u8],
) -> std::io::Result<()> {
    // A new header has time, uid and gid 0.
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)
}

/// With no time and no name in its header. A better compression saves a tenth more, in three times the time.
fn compressed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

/// The machine's architecture under OCI's name.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Absolute paths in ldd's output: `libc.so.6 => /lib/libc.so.6 (0x1)` and `/lib64/ld.so (0x1)`.
fn libraries(ldd: &str) -> impl Iterator<Item = PathBuf> {
    ldd.lines().filter_map(|line| {
        let line = line.rsplit_once("=>").map_or(line, |(_, path)| path);
        line.split_whitespace().next().filter(|path| path.starts_with('/')).map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn image(folder: &Path) -> Image {
        let program = folder.join("program");
        fs::write(&program, "#!").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
        Image {
            name: "localhost/x:dev".into(),
            entrypoint: Some("/bin/x".into()),
            user: "65532:65532".into(),
            files: [("/bin/x".into(), program)].into(),
            ..Image::default()
        }
    }

    fn unpack(bytes: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut archive = tar::Archive::new(bytes);
        let read = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), (entry.header().mode().unwrap(), bytes))
        };
        archive.entries().unwrap().map(read).collect()
    }

    #[test]
    fn the_same_files_give_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (folder.path().join("1.tar"), folder.path().join("2.tar"));
        image(folder.path()).write(&first).unwrap();
        image(folder.path()).write(&second).unwrap();
        assert_eq!(fs::read(first).unwrap(), fs::read(second).unwrap());
    }

    #[test]
    fn every_descriptor_leads_to_its_blob_and_the_layer_to_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.tar");
        image(folder.path()).write(&path).unwrap();
        let archive = unpack(&fs::read(path).unwrap());
        let blob = |descriptor: &Value| {
            let name = descriptor["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
            let bytes = archive[&name].1.clone();
            assert_eq!(descriptor["size"], bytes.len());
            assert_eq!(descriptor["digest"], digest(&bytes));
            bytes
        };
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = json(&archive["index.json"].1);
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "localhost/x:dev");
        let manifest = json(&blob(&index["manifests"][0]));
        let config = json(&blob(&manifest["config"]));
        let mut layer = Vec::new();
        let compressed = blob(&manifest["layers"][0]);
        flate2::read::GzDecoder::new(compressed.as_slice()).read_to_end(&mut layer).unwrap();
        assert_eq!(config["rootfs"]["diff_ids"][0], digest(&layer));
        assert_eq!(config["config"]["Entrypoint"], json!(["/bin/x"]));

        let files = unpack(&layer);
        assert_eq!(files["bin/x"], (0o755, b"#!".to_vec()));
        assert_eq!(files["tmp"].0, 0o1777);
        assert!(files["etc/passwd"].1.starts_with(b"root:"));
        assert!(files.contains_key("bin"), "a file's folder comes with it");
    }

    #[test]
    fn names_without_host_or_tag_are_refused() {
        for name in ["x:dev", "localhost/x"] {
            let image = Image { name: name.into(), ..Image::default() };
            let error = image.write(Path::new("unwritten.tar")).unwrap_err().to_string();
            assert!(error.contains("needs a host and a tag"), "{error}");
        }
    }

    #[test]
    fn libraries_are_read_from_ldd() {
        let text =
            "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/libc.so.6 (0x7f)\n\t/lib64/ld.so.2 (0x7f)\n";
        assert_eq!(
            libraries(text).collect::<Vec<_>>(),
            [PathBuf::from("/lib/libc.so.6"), "/lib64/ld.so.2".into()]
        );
    }
}
