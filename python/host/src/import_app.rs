//! Resolves an application reference to a callable: `MODULE[:CALLABLE]` or `FILE[:CALLABLE]`.
//!
//! 1. [`prepare`]: current directory, `sys.path`, `sys.argv`.
//! 2. Import the modules of `import`, which may fail.
//! 3. Import the module, or execute the file as one.
//! 4. Find the callable in it; call it if it is a factory.
//!
//! An error is one sentence if the reference is wrong, and the whole traceback if the application
//! raises.

use std::path::{Path, PathBuf};
use std::time::Instant;

use pyo3::exceptions::{PyAttributeError, PyModuleNotFoundError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFunction, PyList, PyModule, PyTuple, PyType};
use pyserve_wire::control::{Boot, FoundFiles, Interpreter, Loaded};

use crate::{breakpoints, log};

/// The script that finds the files of a Django project.
const FOUND_FILES: &str = include_str!("../../pyserve/found_files.py");
/// The script that reads the arguments of a factory.
const FACTORY_ARGUMENTS: &str = include_str!("../../pyserve/factory_arguments.py");
/// The script that turns the standard streams into logs.
const STANDARD_STREAMS: &str = include_str!("../../pyserve/standard_streams.py");
/// Names that are tried if the reference has none: PEP 3333's own, then Flask's.
const USUAL: [&str; 2] = ["application", "app"];
/// Factory functions, tried after those if nothing is named.
const FACTORIES: [&str; 2] = ["create_app", "make_app"];
/// The flag of `*args` in a code object.
const CO_VARARGS: u32 = 0x04;
/// The flag of `async def` in a code object.
const CO_COROUTINE: u32 = 0x80;

/// An application, ready to be called.
pub struct Imported {
    /// The callable.
    pub app: Py<PyAny>,
    /// Facts about it for the supervisor.
    pub loaded: Loaded,
}

/// Sets up the process for the application: current directory, `sys.path` with `chdir` and the
/// `pythonpath` ahead of the interpreter's own, `sys.argv`, and standard streams that act as logs:
/// they forward each line at once, and never fail.
///
/// # Errors
/// A text for the user.
pub fn prepare(py: Python<'_>, boot: &Boot) -> Result<(), String> {
    if !boot.chdir.as_os_str().is_empty() {
        py.import("os")
            .and_then(|os| os.call_method1("chdir", (boot.chdir.as_os_str(),)))
            .map_err(|error| {
                format!("cannot change to the directory of the application: {error}")
            })?;
    }
    if let Err(error) = tolerate_streams(py) {
        log::exception(
            py,
            0,
            "cannot set up standard output and standard error",
            &error,
        );
    }
    set_paths(py, boot)
        .and_then(|()| set_main(py, boot))
        .and_then(|()| breakpoints::install(py, boot))
        .map_err(|error| log::traceback(py, &error))
}

/// Gives `__main__` the file of the application, as under `python FILE`. Without one, python-dotenv
/// and others take the process for an interactive one, and look for their files in the current
/// directory instead of beside the calling module.
///
/// Children that `multiprocessing` spawns would run that file again as their own `__main__`; a spec
/// with the name `__main__` prevents that (`_fixup_main_from_name` in `multiprocessing/spawn.py`).
fn set_main(py: Python<'_>, boot: &Boot) -> PyResult<()> {
    let sys = py.import("sys")?;
    let path = py.import("os")?.getattr("path")?;
    let is_file = |file: &Bound<'_, PyAny>| path.call_method1("isfile", (file,))?.is_truthy();
    let mut main_file = sys.getattr("executable")?;
    if boot.app_is_file {
        main_file = path.call_method1("abspath", (boot.app.as_os_str(),))?;
    } else {
        let module = boot.app.to_string_lossy().replace('.', "/");
        'found: for dir in sys.getattr("path")?.try_iter()? {
            let dir = dir?;
            for name in [format!("{module}.py"), format!("{module}/__init__.py")] {
                // Entries that are not directories, such as zip files, have no such file.
                if let Ok(file) = path.call_method1("join", (&dir, name))
                    && is_file(&file)?
                {
                    main_file = file;
                    break 'found;
                }
            }
        }
    }
    let spec = py.import("importlib.machinery")?.getattr("ModuleSpec")?;
    let main = sys.getattr("modules")?.get_item("__main__")?;
    main.setattr("__spec__", spec.call1(("__main__", py.None()))?)?;
    main.setattr("__file__", main_file)
}

fn set_paths(py: Python<'_>, boot: &Boot) -> PyResult<()> {
    let os = py.import("os")?;
    let sys = py.import("sys")?;
    let mut front = vec![os.call_method0("getcwd")?];
    for dir in &boot.pythonpath {
        front.push(
            os.getattr("path")?
                .call_method1("abspath", (dir.as_os_str(),))?,
        );
    }
    let path = PyList::empty(py);
    for dir in &front {
        if !path.contains(dir)? {
            path.append(dir)?;
        }
    }
    for dir in sys.getattr("path")?.try_iter()? {
        let dir = dir?;
        if !path.contains(&dir)? {
            path.append(dir)?;
        }
    }
    // The list is changed in place, because other code may hold it.
    sys.getattr("path")?
        .set_item(pyo3::types::PySlice::full(py), path)?;
    let words = match &boot.argv[..] {
        [] => std::slice::from_ref(&boot.app),
        words => words,
    };
    let words: Vec<_> = words.iter().map(|word| word.as_os_str()).collect();
    sys.setattr("argv", words)
}

/// Turns standard output and standard error into logs whose errors never fail a request.
fn tolerate_streams(py: Python<'_>) -> PyResult<()> {
    let names = PyDict::new(py);
    names.set_item("__name__", "<pyserve standard streams>")?;
    let builtins = py.import("builtins")?;
    let arguments = (STANDARD_STREAMS, "<pyserve standard streams>", "exec");
    let code = builtins.call_method1("compile", arguments)?;
    builtins.call_method1("exec", (code, &names))?;
    names.as_any().get_item("install")?.call0().map(drop)
}

/// Facts about this interpreter.
pub fn interpreter(py: Python<'_>) -> Interpreter {
    let text = |name: &str| -> String {
        py.import("sys")
            .and_then(|sys| sys.getattr(name))
            .and_then(|value| value.extract::<PathBuf>())
            .map(|path| path.display().to_string())
            .unwrap_or_default()
    };
    let version = py.version_info();
    let prefix = text("prefix");
    Interpreter {
        version: format!("{}.{}.{}", version.major, version.minor, version.patch),
        executable: text("executable"),
        is_venv: prefix != text("base_prefix"),
        prefix,
    }
}

/// Imports the application.
///
/// # Errors
/// A text for the user: a sentence or a traceback.
pub fn import(py: Python<'_>, boot: &Boot) -> Result<Imported, String> {
    let began = Instant::now();
    import_others(py, &boot.imports);
    let module = if boot.app_is_file {
        import_file(py, boot)?
    } else {
        import_module(py, boot)?
    };
    let (name, mut app, is_factory) = callable(py, boot, &module)?;
    if is_factory {
        app = call(&app, &boot.arguments).map_err(|error| log::traceback(py, &error))?;
        if !app.is_callable() {
            let inside = match wsgi_inside(&app) {
                Some(inside) => format!(
                    "; its attribute {inside:?} is a WSGI application: give it a name in the module \
                     (wsgi = {name}().{inside}), and say {}:wsgi",
                    boot.app.display()
                ),
                None => String::new(),
            };
            return Err(format!(
                "the factory {name} of {:?} returned {}, which cannot be called{inside}",
                boot.app,
                describe(&app)
            ));
        }
    }
    refuse_asgi(&app, boot, &name)?;
    if boot.dev {
        breakpoints::end_session(py).map_err(|error| log::traceback(py, &error))?;
    }
    let parentheses = match (is_factory, boot.arguments.is_empty()) {
        (false, _) => "",
        (true, true) => "()",
        // They may have secrets in them.
        (true, false) => "(…)",
    };
    let loaded = Loaded {
        app: format!("{}:{name}{parentheses}", boot.app.display()),
        framework: framework(py, &app).unwrap_or_default(),
        import_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        files: found_files(py, boot),
        shared: Vec::new(),
    };
    Ok(Imported {
        app: app.unbind(),
        loaded,
    })
}

/// Calls a factory with arguments as Python has them. They are literals, as in gunicorn (util.py, `import_app`).
fn call<'py>(factory: &Bound<'py, PyAny>, arguments: &str) -> PyResult<Bound<'py, PyAny>> {
    if arguments.is_empty() {
        return factory.call0();
    }
    let py = factory.py();
    let names = PyDict::new(py);
    names.set_item("__name__", "<pyserve arguments>")?;
    let builtins = py.import("builtins")?;
    let source = (FACTORY_ARGUMENTS, "<pyserve arguments>", "exec");
    let code = builtins.call_method1("compile", source)?;
    builtins.call_method1("exec", (code, &names))?;
    let read = names.as_any().get_item("arguments")?.call1((arguments,))?;
    let (positional, named) = read.extract::<(Bound<'py, PyTuple>, Bound<'py, PyDict>)>()?;
    factory.call(positional, Some(&named))
}

/// Imports what `import` names. As under uWSGI, one that raises is logged, and the next one follows
/// (plugins/python/python_plugin.c, `uwsgi_python_init_apps`).
fn import_others(py: Python<'_>, names: &[String]) {
    for name in names {
        let done = match name.contains('/') || name.ends_with(".py") {
            true => import_path(py, name),
            false => py.import(&**name).map(drop),
        };
        if let Err(error) = done {
            log::exception(
                py,
                0,
                &format!("cannot import {name:?} of `import`"),
                &error,
            );
        }
    }
}

/// Executes a file as the module that uWSGI makes of it: `lib/tasks.py` is `lib_tasks`.
fn import_path(py: Python<'_>, path: &str) -> PyResult<()> {
    let source = std::fs::read(path)?;
    let name = path.strip_suffix(".py").unwrap_or(path);
    execute(py, Path::new(path), &name.replace(['/', '.'], "_"), &source).map(drop)
}

/// The files that the application asks to be served. An error here does not prevent the application
/// from being served.
fn found_files(py: Python<'_>, boot: &Boot) -> Vec<FoundFiles> {
    type Row = (String, PathBuf, String);
    let ask = || -> PyResult<Vec<Row>> {
        let names = PyDict::new(py);
        names.set_item("__name__", "<pyserve>")?;
        let builtins = py.import("builtins")?;
        let code = builtins.call_method1("compile", (FOUND_FILES, "<pyserve>", "exec"))?;
        builtins.call_method1("exec", (code, &names))?;
        let found_files = names.as_any().get_item("found_files")?;
        found_files
            .call1((boot.find_static, boot.find_media, boot.dev, &*boot.mount))?
            .extract()
    };
    match ask() {
        Ok(rows) => rows
            .into_iter()
            .map(|(prefix, dir, source)| FoundFiles {
                prefix,
                dir,
                source,
            })
            .collect(),
        Err(error) => {
            log::exception(
                py,
                0,
                "cannot determine the application's static files",
                &error,
            );
            Vec::new()
        }
    }
}

fn import_module<'py>(py: Python<'py>, boot: &Boot) -> Result<Bound<'py, PyModule>, String> {
    let name = &*boot.app.to_string_lossy();
    py.import(name).map_err(|error| {
        if let Some(missing) = missing_part(py, &error, name) {
            let path = python_path(py, boot);
            return format!(
                "cannot import {:?}: there is no module {missing:?} in {path}, nor among the \
                 packages of {}",
                boot.app,
                interpreter(py).executable
            );
        }
        log::traceback(py, &error)
    })
}

/// The name that was not found, if it is the reference itself or a package above it, and not a
/// module that the application imports.
fn missing_part(py: Python<'_>, error: &PyErr, app: &str) -> Option<String> {
    if !error.is_instance_of::<PyModuleNotFoundError>(py) {
        return None;
    }
    let missing: String = error.value(py).getattr("name").ok()?.extract().ok()?;
    let is_ours = app == missing || app.strip_prefix(&*missing)?.starts_with('.');
    // Raised inside another module, which imports itself under a wrong name.
    let is_inner = error.traceback(py).is_some();
    (is_ours && !is_inner).then_some(missing)
}

fn import_file<'py>(py: Python<'py>, boot: &Boot) -> Result<Bound<'py, PyModule>, String> {
    let path = &*boot.app;
    let source = std::fs::read(path)
        .map_err(|error| format!("cannot read {:?} in {:?}: {error}", boot.app, boot.chdir))?;
    let run = || {
        let modules = py.import("sys")?.getattr("modules")?;
        let name = module_name(path, |name| modules.contains(name).unwrap_or(false));
        execute(py, path, &name, &source)
    };
    run().map_err(|error| log::traceback(py, &error))
}

/// Executes a file as a separate module, which `sys.modules` contains under this name, so that classes
/// in it can be pickled and frameworks find their files beside it.
fn execute<'py>(
    py: Python<'py>,
    path: &Path,
    name: &str,
    source: &[u8],
) -> PyResult<Bound<'py, PyModule>> {
    let absolute = std::path::absolute(path)?;
    // As a `str`: a `Path` would become a `pathlib.Path`.
    let absolute = absolute.as_os_str();
    let modules = py.import("sys")?.getattr("modules")?;
    let loader = py
        .import("importlib.machinery")?
        .getattr("SourceFileLoader")?
        .call1((name, absolute))?;
    let util = py.import("importlib.util")?;
    let arguments = PyDict::new(py);
    arguments.set_item("loader", loader)?;
    let spec = util.call_method(
        "spec_from_file_location",
        (name, absolute),
        Some(&arguments),
    )?;
    let module = util.call_method1("module_from_spec", (spec,))?;
    modules.set_item(name, &module)?;
    let builtins = py.import("builtins")?;
    let source = pyo3::types::PyBytes::new(py, source);
    let run = || {
        let code = builtins.call_method1("compile", (source, absolute, "exec"))?;
        let namespace = module.getattr("__dict__")?;
        builtins.call_method1("exec", (code, namespace))
    };
    if let Err(error) = run() {
        modules.del_item(name)?;
        return Err(error);
    }
    Ok(module.cast_into::<PyModule>()?)
}

/// `index.py` becomes `index`, so that `import index` elsewhere finds the same module; a name that
/// is invalid, or in use (`types.py`), is replaced by a unique one.
fn module_name(path: &Path, is_taken: impl Fn(&str) -> bool) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let is_name = !stem.starts_with(|first: char| first.is_ascii_digit())
        && stem.chars().all(|c| c == '_' || c.is_alphanumeric());
    let is_python = path.extension().is_some_and(|extension| extension == "py");
    if is_python && is_name && !is_taken(&stem) {
        return stem.into_owned();
    }
    let safe = |c: char| if c.is_alphanumeric() { c } else { '_' };
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    format!(
        "pyserve_file_{}",
        file.chars().map(safe).collect::<String>()
    )
}

/// Finds the callable; returns it with its name, and true if it is a factory.
fn callable<'py>(
    py: Python<'py>,
    boot: &Boot,
    module: &Bound<'py, PyModule>,
) -> Result<(String, Bound<'py, PyAny>, bool), String> {
    if !boot.callable.is_empty() {
        let found = attribute(module, &boot.callable).map_err(|error| {
            if error.is_instance_of::<PyAttributeError>(py) {
                missing_callable(boot, module, &format!("{:?}", boot.callable))
            } else {
                log::traceback(py, &error)
            }
        })?;
        let is_wanted = boot.factory || !cannot_be_an_app(&found);
        return match (found.is_callable(), is_wanted) {
            (true, true) => Ok((boot.callable.clone(), found, boot.factory)),
            (true, false) => Err(format!(
                "{:?} in {:?} does not take environ and start_response, so it is no WSGI \
                 application; if it makes one, say {}:{}()",
                boot.callable,
                boot.app,
                boot.app.display(),
                boot.callable
            )),
            (false, _) => Err(not_callable(boot, &boot.callable, &found)),
        };
    }
    let mut no_app = None;
    for name in USUAL {
        match module.getattr_opt(name) {
            Ok(Some(found)) if found.is_callable() && !cannot_be_an_app(&found) => {
                return Ok((name.to_owned(), found, false));
            }
            // A module of this name is a part of the package that was imported.
            Ok(Some(found)) if !found.is_callable() && !found.is_instance_of::<PyModule>() => {
                no_app = no_app.or_else(|| Some(not_callable(boot, name, &found)));
            }
            Ok(_) => {}
            // A module may compute its attributes (PEP 562), and raise.
            Err(error) => return Err(log::traceback(py, &error)),
        }
    }
    for name in FACTORIES
        .into_iter()
        .filter(|_| boot.find_factory && no_app.is_none())
    {
        match module.getattr_opt(name) {
            Ok(Some(found)) if required_arguments(&found) == Some(0) => {
                return Ok((name.to_owned(), found, true));
            }
            Ok(_) => {}
            Err(error) => return Err(log::traceback(py, &error)),
        }
    }
    Err(no_app.unwrap_or_else(|| {
        missing_callable(
            boot,
            module,
            "\"application\" or \"app\" that can be called",
        )
    }))
}

fn not_callable(boot: &Boot, name: &str, found: &Bound<'_, PyAny>) -> String {
    let inside = match wsgi_inside(found) {
        Some(inside) => format!(
            "; its attribute {inside:?} is a WSGI application (use {}:{name}.{inside})",
            boot.app.display()
        ),
        None => String::new(),
    };
    let what = describe(found);
    format!(
        "{name:?} in {:?} is {what}, which cannot be called{inside}",
        boot.app
    )
}

/// The attribute that holds the WSGI application in an object of a framework such as Dash.
fn wsgi_inside(object: &Bound<'_, PyAny>) -> Option<&'static str> {
    const NAMES: [&str; 6] = [
        "server",
        "wsgi_app",
        "wsgi",
        "application",
        "app",
        "flask_app",
    ];
    let is_wsgi = |name: &str| {
        // Computed attributes may raise any exception: then there is none.
        let found = object.getattr(name).ok()?;
        let is_wsgi = found.is_callable()
            && !found.is_instance_of::<PyType>()
            && !cannot_be_an_app(&found)
            && !is_asgi(&found);
        is_wsgi.then_some(())
    };
    NAMES.into_iter().find(|name| is_wsgi(name).is_some())
}

/// `a` or `a.b`.
fn attribute<'py>(module: &Bound<'py, PyModule>, path: &str) -> PyResult<Bound<'py, PyAny>> {
    path.split('.')
        .try_fold(module.clone().into_any(), |object, name| {
            object.getattr(name)
        })
}

fn missing_callable(boot: &Boot, module: &Bound<'_, PyModule>, wanted: &str) -> String {
    let (callables, factories) = candidates(module);
    let mut text = format!("{:?} has no {wanted}", boot.app);
    match &callables[..] {
        [] => {}
        [only] => text += &format!("; it has the callable {only}"),
        several => text += &format!("; it has the callables {}", several.join(", ")),
    }
    match &factories[..] {
        [] => {}
        [only] => text += &format!("; it has the factory {only}"),
        several => text += &format!("; it has the factories {}", several.join(", ")),
    }
    match callables.first().or(factories.first()) {
        Some(name) => text += &format!(" (for example {}:{name})", boot.app.display()),
        None => text += ", nor anything else that could be an application",
    }
    text
}

/// Names in the module that could be applications, and functions that could be factories.
fn candidates(module: &Bound<'_, PyModule>) -> (Vec<String>, Vec<String>) {
    let own_name = module
        .name()
        .map(|name| name.to_string())
        .unwrap_or_default();
    let (mut callables, mut factories) = (Vec::new(), Vec::new());
    for (name, value) in module.dict().iter() {
        let name = name.to_string();
        if name.starts_with('_') || !value.is_callable() || value.is_instance_of::<PyType>() {
            continue;
        }
        if value.is_instance_of::<PyFunction>() {
            let defined_in = value.getattr("__module__").map(|module| module.to_string());
            if defined_in.ok().as_ref() != Some(&own_name) {
                continue;
            }
            match required_arguments(&value) {
                Some(0) => factories.push(format!("{name}()")),
                Some(2) => callables.push(name),
                _ => {}
            }
        } else if value.get_type().hasattr("__call__").unwrap_or(false)
            && !value.hasattr("__code__").unwrap_or(false)
            && !value.hasattr("__self__").unwrap_or(false)
        {
            callables.push(name);
        }
    }
    callables.sort_unstable();
    factories.sort_unstable();
    (callables, factories)
}

/// True if this is a plain function that cannot be called with two arguments.
fn cannot_be_an_app(callable: &Bound<'_, PyAny>) -> bool {
    let takes = || -> PyResult<(usize, u32)> {
        let code = callable.getattr("__code__")?;
        Ok((
            code.getattr("co_argcount")?.extract()?,
            code.getattr("co_flags")?.extract()?,
        ))
    };
    callable.is_instance_of::<PyFunction>()
        && takes().is_ok_and(|(count, flags)| count < 2 && flags & CO_VARARGS == 0)
}

/// Positional arguments without a default.
fn required_arguments(function: &Bound<'_, PyAny>) -> Option<usize> {
    let count: usize = function
        .getattr("__code__")
        .and_then(|code| code.getattr("co_argcount"))
        .and_then(|count| count.extract())
        .ok()?;
    let defaults = function.getattr("__defaults__").ok()?;
    Some(count.saturating_sub(defaults.len().unwrap_or(0)))
}

/// An ASGI application would be called, and return nothing useful.
fn refuse_asgi(app: &Bound<'_, PyAny>, boot: &Boot, name: &str) -> Result<(), String> {
    match is_asgi(app) {
        true => Err(format!(
            "{name:?} in {:?} is an ASGI application ({}); pyserve hosts WSGI",
            boot.app,
            describe(app)
        )),
        false => Ok(()),
    }
}

fn is_asgi(app: &Bound<'_, PyAny>) -> bool {
    let is_coroutine = |callable: PyResult<Bound<'_, PyAny>>| {
        callable
            .and_then(|callable| callable.getattr("__code__"))
            .and_then(|code| code.getattr("co_flags"))
            .and_then(|flags| flags.extract::<u32>())
            .is_ok_and(|flags| flags & CO_COROUTINE != 0)
    };
    is_coroutine(Ok(app.clone())) || is_coroutine(app.getattr("__call__"))
}

/// `Django 5.2.19`, `Flask 3.1.3`, or the name of another known framework.
fn framework(py: Python<'_>, app: &Bound<'_, PyAny>) -> Option<String> {
    const KNOWN: [(&str, &str); 6] = [
        ("django", "Django"),
        ("flask", "Flask"),
        ("pyramid", "Pyramid"),
        ("falcon", "Falcon"),
        ("bottle", "Bottle"),
        ("cherrypy", "CherryPy"),
    ];
    let modules = py.import("sys").ok()?.getattr("modules").ok()?;
    let of_type = app.get_type().getattr("__module__").ok()?.to_string();
    let package = of_type.split('.').next().unwrap_or_default();
    // The type is certain; behind middleware, the first framework that was imported.
    let (package, name) = KNOWN
        .iter()
        .find(|(known, _)| *known == package)
        .or_else(|| {
            KNOWN
                .iter()
                .find(|(known, _)| modules.contains(known).unwrap_or(false))
        })?;
    let version = if *package == "django" {
        modules
            .get_item(package)
            .and_then(|module| module.call_method0("get_version"))
    } else {
        py.import("importlib.metadata")
            .and_then(|metadata| metadata.call_method1("version", (package,)))
    };
    Some(match version {
        Ok(version) => format!("{name} {version}"),
        Err(_) => (*name).to_owned(),
    })
}

/// An object in a few words: its type.
fn describe(object: &Bound<'_, PyAny>) -> String {
    if object.is_none() {
        return "None".to_owned();
    }
    format!("of type {}", crate::wsgi::head::type_name(object))
}

/// The directories in which a reference is searched.
fn python_path(py: Python<'_>, boot: &Boot) -> String {
    let here = py
        .import("os")
        .and_then(|os| os.call_method0("getcwd"))
        .and_then(|here| here.extract())
        .unwrap_or_else(|_| boot.chdir.clone());
    std::iter::once(&here)
        .chain(&boot.pythonpath)
        .map(|dir| dir.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}
