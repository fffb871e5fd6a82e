//! Builds the pinned servers into a cache outside the checkout, where every checkout finds them.
//!
//! A program is built under a temporary name and moved into place: what has its name is complete, so an
//! interrupted build goes on where it stopped. One build at a time works on a cache; others wait for it.

use crate::{
    error::{Context, Error, Result, last_lines, output},
    image::Image,
    lock::Lock,
    pins::{
        AGNHOST_IMAGE, BUILD_FLAGS, GO_VERSION, KUBECTL_IMAGE, MODULES, Module, PAUSE_IMAGE, Patch, Program,
        key, link_flags,
    },
    process::Process,
    progress::{Progress, check_interrupt},
};
use rustix::process::Signal;
use std::{
    env, fs,
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The folder of one set of pins.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache of this command's pins and the installed Go, under `MAINSTAY_CACHE`, `XDG_CACHE_HOME` or
    /// `~/.cache`. Fails when Go is missing or too old.
    pub fn locate() -> Result<Self> {
        let version = go_version().ok_or_else(go_missing)?;
        let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = folder("MAINSTAY_CACHE")
            .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("mainstay")))
            .or_else(|| folder("HOME").map(|home| home.join(".cache/mainstay")))
            .ok_or_else(|| Error::Refused("set MAINSTAY_CACHE to a folder for the built servers".into()))?;
        Ok(Self { root: base.join("cluster").join(key(MODULES, &version)) })
    }

    /// The cache at `root`, as a running cluster's settings name it.
    pub(crate) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// Folder of this set of pins.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The built programs.
    pub fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// kwok's stages as its module ships them: node/, pod/ and volume/.
    pub fn stages(&self) -> PathBuf {
        self.root.join("stages")
    }

    /// Images that every cluster loads.
    pub fn images(&self) -> [PathBuf; 3] {
        ["pause.tar", "agnhost.tar", "kubectl.tar"].map(|file| self.root.join("images").join(file))
    }

    fn complete(&self) -> bool {
        let programs = MODULES.iter().flat_map(|module| module.programs);
        programs.into_iter().all(|program| self.bin().join(program.name).exists())
            && self.stages().exists()
            && self.images().iter().all(|image| image.exists())
    }

    /// Builds what is missing.
    pub fn build(&self, progress: &Progress) -> Result<()> {
        if self.complete() {
            return Ok(());
        }
        for folder in [self.bin(), self.root.join("images")] {
            fs::create_dir_all(&folder).context(|| format!("cannot make {}", folder.display()))?;
        }
        let _lock = Lock::wait(&self.root.join("lock"), Duration::from_secs(3600), progress)?;
        self.end_orphan()?;
        let work = self.root.join("work");
        let _ = fs::remove_dir_all(&work);
        let total: usize = MODULES.iter().map(|module| module.programs.len()).sum();
        let mut number = 0;
        for module in MODULES {
            let folder = work.join(module.name);
            write_pins(module, &folder)?;
            apply(module.patches, &folder)?;
            for program in module.programs {
                number += 1;
                let label = format!("{} ({number} of {total})", program.name);
                self.program(program, &folder, &label, progress)?;
            }
        }
        self.extras(&work)?;
        let _ = fs::remove_dir_all(&work);
        progress.say(format_args!("all servers built in {}", self.root.display()));
        Ok(())
    }

    fn program(&self, program: &Program, module: &Path, label: &str, progress: &Progress) -> Result<()> {
        let target = self.bin().join(program.name);
        if target.exists() {
            return Ok(());
        }
        progress.say(format_args!("building {label}"));
        let built = module.join(program.name);
        let mut go = go();
        go.arg("build").args(BUILD_FLAGS).args(["-ldflags", &link_flags(program), "-o"]);
        go.arg(&built).arg(program.package).current_dir(module);
        self.watch(&mut go, &module.join("go.log"), label, progress)?;
        fs::rename(&built, &target).context(|| format!("cannot write {}", target.display()))
    }

    /// Runs a Go build to its end, tells every 15 s that it still runs, and ends it on an interrupt.
    fn watch(&self, go: &mut Command, log: &Path, label: &str, progress: &Progress) -> Result<()> {
        let what = || format!("cannot write {}", log.display());
        let file = File::create(log).context(what)?;
        go.stdin(Stdio::null()).stdout(file.try_clone().context(what)?).stderr(file).process_group(0);
        let mut child = go.spawn().context(|| "cannot start go".into())?;
        let process = Process::of(child.id());
        let record = serde_json::to_vec(&process).expect("a process is plain data");
        fs::write(self.orphan(), record).context(|| "cannot record the build".into())?;
        let (start, mut told) = (Instant::now(), 0);
        let status = loop {
            if let Some(status) = child.try_wait().context(|| "cannot wait for go".into())? {
                break status;
            }
            if let Err(interrupted) = check_interrupt() {
                // The group holds go and the compilers below it.
                process.map_or(Ok(()), |process| process.signal_group(Signal::KILL))?;
                let _ = child.wait();
                return Err(interrupted);
            }
            if start.elapsed().as_secs() / 15 > told {
                told = start.elapsed().as_secs() / 15;
                progress.say(format_args!("still building {label}, {} s", start.elapsed().as_secs()));
            }
            thread::sleep(Duration::from_millis(50));
        };
        if status.success() {
            return Ok(());
        }
        let text = fs::read_to_string(log).unwrap_or_default();
        Err(Error::Command { command: format!("go build of {label}"), output: last_lines(&text, 20) })
    }

    fn orphan(&self) -> PathBuf {
        self.root.join("building.json")
    }

    /// Ends the Go build that a killed command left behind.
    fn end_orphan(&self) -> Result<()> {
        let record = fs::read(self.orphan()).unwrap_or_default();
        let process: Option<Process> = serde_json::from_slice(&record).unwrap_or_default();
        process.map_or(Ok(()), |process| process.signal_group(Signal::KILL))
    }

    /// What is no Go program: kwok's stages, the pause program and the images.
    fn extras(&self, work: &Path) -> Result<()> {
        if !self.stages().exists() {
            let copy = work.join("stages");
            let kwok = module_folder(&work.join("tools"), "sigs.k8s.io/kwok")?;
            copy_yaml(&kwok.join("kustomize/stage"), &copy)?;
            fs::rename(&copy, self.stages()).context(|| "cannot place kwok's stages".into())?;
        }
        let [pause_image, agnhost_image, kubectl_image] = self.images();
        if !pause_image.exists() {
            let source = module_folder(&work.join("kubernetes"), "k8s.io/kubernetes")?;
            let (source, program) = (source.join("build/pause/linux/pause.c"), work.join("pause"));
            output(Command::new("cc").args(["-Os", "-static", "-s", "-o"]).arg(&program).arg(&source))?;
            single_program_image(PAUSE_IMAGE, "/pause", "65535:65535", program).write(&pause_image)?;
        }
        if !agnhost_image.exists() {
            let program = self.bin().join("agnhost");
            single_program_image(AGNHOST_IMAGE, "/agnhost", "0:0", program).write(&agnhost_image)?;
        }
        if !kubectl_image.exists() {
            let program = self.bin().join("kubectl");
            single_program_image(KUBECTL_IMAGE, "/bin/kubectl", "0:0", program).write(&kubectl_image)?;
        }
        Ok(())
    }
}

fn single_program_image(name: &str, entrypoint: &str, user: &str, program: PathBuf) -> Image {
    Image {
        name: name.into(),
        entrypoint: Some(entrypoint.into()),
        user: user.into(),
        env: vec!["PATH=/".into()],
        files: [(entrypoint.into(), program)].into(),
        ..Image::default()
    }
}

/// `go` with nothing of the caller's settings that could change what is built.
fn go() -> Command {
    let mut go = Command::new("go");
    go.env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env("GOFLAGS", "-mod=readonly");
    go.env_remove("GOOS").env_remove("GOARCH").env_remove("GOEXPERIMENT");
    go
}

/// The installed Go's version, for example `go1.26.8`; none when it is missing or too old.
fn go_version() -> Option<String> {
    let version = output(go().args(["env", "GOVERSION"])).ok()?.trim().to_owned();
    let mut numbers = version.strip_prefix("go")?.split('.').map(|number| number.parse::<u32>().ok());
    let found = (numbers.next()??, numbers.next()??);
    (found >= GO_VERSION).then_some(version)
}

fn go_missing() -> Error {
    let (major, minor) = GO_VERSION;
    Error::Missing(format!(
        "Go {major}.{minor} or newer is needed to build Kubernetes: install it from https://go.dev/dl and put \
         its bin folder in PATH"
    ))
}

fn write_pins(module: &Module, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(folder.join("go.mod"), module.go_mod))
        .and_then(|()| fs::write(folder.join("go.sum"), module.go_sum))
        .and_then(|()| module.main.map_or(Ok(()), |text| fs::write(folder.join("main.go"), text)))
        .context(|| format!("cannot write {}", folder.display()))
}

/// Lets the module in `folder` use copies of the dependencies that it patches.
fn apply(patches: &[Patch], folder: &Path) -> Result<()> {
    for Patch { module, file, from, to } in patches {
        let copy = folder.join("patched").join(module);
        if !copy.exists() {
            output(go().args(["mod", "download", module]).current_dir(folder))?;
            let source = module_folder(folder, module)?;
            fs::create_dir_all(&copy).context(|| format!("cannot make {}", copy.display()))?;
            // The module cache's own files are read-only.
            output(Command::new("cp").args(["-rT", "--no-preserve=mode"]).args([&source, &copy]))?;
            let replace = format!("-replace={module}=./patched/{module}");
            output(go().args(["mod", "edit", &replace]).current_dir(folder))?;
        }
        let file = copy.join(file);
        let text = fs::read_to_string(&file).context(|| format!("cannot read {}", file.display()))?;
        if text.matches(from).count() != 1 {
            let file = file.display();
            return Err(Error::Refused(format!("{file} does not have {from:?} once; see src/pins.rs")));
        }
        fs::write(&file, text.replace(from, to)).context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Where Go keeps the sources of `dependency`, as pinned by the module in `folder`.
fn module_folder(folder: &Path, dependency: &str) -> Result<PathBuf> {
    let mut go = go();
    go.args(["list", "-mod=readonly", "-m", "-f", "{{.Dir}}", dependency]).current_dir(folder);
    Ok(output(&mut go)?.trim().into())
}

/// Copies the YAML files below `from`; the module cache's own files are read-only.
fn copy_yaml(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("cannot copy {}", from.display());
    fs::create_dir_all(to).context(what)?;
    for entry in fs::read_dir(from).context(what)? {
        let path = entry.context(what)?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_yaml(&path, &target)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = fs::read(&path).context(what)?;
            fs::write(&target, text).context(what)?;
        }
    }
    Ok(())
}
