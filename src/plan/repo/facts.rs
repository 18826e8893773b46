//! What names tell: the language of a file, a build system, tests, continuous integration.
//!
//! Tables, from the conventions of each tool's manual. Refuses to open a file, and to count what is no program: data, prose
//! and locks would make every repository one of JSON.

/// Directories that hold what others wrote, or a version control's own files.
pub(super) fn is_passed_over(name: &str) -> bool {
    matches!(name, ".git" | ".hg" | ".svn" | ".jj" | "node_modules")
}

/// Extensions and languages.
const LANGUAGES: &[(&str, &[&str])] = &[
    ("Ada", &["adb", "ads"]),
    ("Assembly", &["asm", "s"]),
    ("C", &["c", "h"]),
    ("C#", &["cs"]),
    ("C++", &["cc", "cpp", "cxx", "hh", "hpp", "hxx"]),
    ("CSS", &["css", "less", "sass", "scss"]),
    ("Clojure", &["clj", "cljc", "cljs"]),
    ("Dart", &["dart"]),
    ("Elixir", &["ex", "exs"]),
    ("Elm", &["elm"]),
    ("Erlang", &["erl", "hrl"]),
    ("F#", &["fs", "fsi", "fsx"]),
    ("Fortran", &["f", "f90", "f95"]),
    ("Go", &["go"]),
    ("Groovy", &["groovy"]),
    ("HTML", &["htm", "html"]),
    ("Haskell", &["hs"]),
    ("Java", &["java"]),
    ("JavaScript", &["cjs", "js", "jsx", "mjs"]),
    ("Julia", &["jl"]),
    ("Kotlin", &["kt", "kts"]),
    ("Lua", &["lua"]),
    ("Nim", &["nim"]),
    ("Nix", &["nix"]),
    ("OCaml", &["ml", "mli"]),
    ("Objective-C", &["m", "mm"]),
    ("PHP", &["php"]),
    ("Perl", &["pl", "pm"]),
    ("PowerShell", &["ps1", "psm1"]),
    ("Python", &["py", "pyi", "pyx"]),
    ("R", &["r"]),
    ("Ruby", &["erb", "rb"]),
    ("Rust", &["rs"]),
    ("SQL", &["sql"]),
    ("Scala", &["sc", "scala"]),
    ("Shell", &["bash", "fish", "sh", "zsh"]),
    ("Solidity", &["sol"]),
    ("Svelte", &["svelte"]),
    ("Swift", &["swift"]),
    ("Terraform", &["tf"]),
    ("TypeScript", &["cts", "mts", "ts", "tsx"]),
    ("Vue", &["vue"]),
    ("Zig", &["zig"]),
];

/// The language of a file by its extension.
pub(super) fn language(name: &str) -> Option<&'static str> {
    let (stem, extension) = name.rsplit_once('.')?;
    if stem.is_empty() {
        return None;
    }
    let extension = extension.to_ascii_lowercase();
    let found = LANGUAGES
        .iter()
        .find(|(_, all)| all.contains(&extension.as_str()));
    found.map(|(language, _)| *language)
}

/// The build system that a file belongs to.
pub(super) fn build_system(name: &str) -> Option<&'static str> {
    Some(match name {
        "Cargo.toml" => "cargo",
        "package.json" => "npm",
        "pnpm-lock.yaml" => "pnpm",
        "yarn.lock" => "yarn",
        "bun.lock" | "bun.lockb" => "bun",
        "deno.json" | "deno.jsonc" => "deno",
        "pyproject.toml" | "setup.py" => "python",
        "requirements.txt" => "pip",
        "go.mod" => "go",
        "pom.xml" => "maven",
        "build.gradle" | "build.gradle.kts" => "gradle",
        "build.sbt" => "sbt",
        "CMakeLists.txt" => "cmake",
        "meson.build" => "meson",
        "configure.ac" => "autotools",
        "Makefile" | "GNUmakefile" | "makefile" => "make",
        "justfile" | "Justfile" => "just",
        "MODULE.bazel" | "WORKSPACE" | "WORKSPACE.bazel" => "bazel",
        "Gemfile" => "bundler",
        "composer.json" => "composer",
        "mix.exs" => "mix",
        "rebar.config" => "rebar3",
        "Package.swift" => "swift",
        "build.zig" => "zig",
        "dune-project" => "dune",
        "stack.yaml" => "stack",
        "pubspec.yaml" => "pub",
        "flake.nix" => "nix",
        _ if name.ends_with(".sln") || name.ends_with(".csproj") => "dotnet",
        _ if name.ends_with(".cabal") => "cabal",
        _ => return None,
    })
}

/// A directory that holds tests by its name.
pub(super) fn is_test_directory(name: &str) -> bool {
    matches!(
        name,
        "test" | "tests" | "__tests__" | "spec" | "specs" | "e2e" | "testing"
    )
}

/// A file that holds tests by its name.
pub(super) fn is_test_file(name: &str) -> bool {
    let Some((stem, extension)) = name.rsplit_once('.') else {
        return false;
    };
    match extension {
        "py" => stem.starts_with("test_") || stem.ends_with("_test"),
        "go" | "cc" | "cpp" | "dart" => stem.ends_with("_test"),
        "rs" => stem == "tests" || stem.ends_with("_test") || stem.ends_with("_tests"),
        "js" | "jsx" | "ts" | "tsx" | "mjs" | "mts" | "cjs" => {
            stem.ends_with(".test") || stem.ends_with(".spec")
        }
        "rb" => stem.ends_with("_spec") || stem.ends_with("_test"),
        "java" | "kt" | "cs" | "scala" | "swift" | "php" => {
            stem.ends_with("Test") || stem.ends_with("Tests")
        }
        "exs" => stem.ends_with("_test"),
        _ => false,
    }
}

/// A file of continuous integration, by its path.
pub(super) fn is_ci_file(path: &str) -> bool {
    let is_workflow = |path: &str| path.ends_with(".yml") || path.ends_with(".yaml");
    match path {
        ".gitlab-ci.yml"
        | ".travis.yml"
        | ".drone.yml"
        | ".cirrus.yml"
        | ".appveyor.yml"
        | "appveyor.yml"
        | "Jenkinsfile"
        | "azure-pipelines.yml"
        | "bitbucket-pipelines.yml"
        | ".woodpecker.yml" => true,
        path => [
            ".github/workflows/",
            ".circleci/",
            ".forgejo/workflows/",
            ".gitea/workflows/",
        ]
        .iter()
        .any(|directory| path.starts_with(directory) && is_workflow(path)),
    }
}

/// A directory of continuous integration, by its path.
pub(super) fn is_ci_directory(path: &str) -> bool {
    matches!(path, ".ci" | "ci" | ".buildkite" | ".woodpecker")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_belong_to_one_language() {
        let mut seen = std::collections::BTreeSet::new();
        for (language, extensions) in LANGUAGES {
            for extension in *extensions {
                assert!(seen.insert(*extension), "{language}: {extension}");
            }
        }
    }

    #[test]
    fn names_tell() {
        assert_eq!(language("a.RS"), Some("Rust"));
        for name in [".rs", "rs", "a.json", "a.md", "Cargo.lock"] {
            assert_eq!(language(name), None, "{name}");
        }
        assert_eq!(build_system("app.csproj"), Some("dotnet"));
        assert!(
            is_test_file("login.test.ts")
                && is_test_file("test_login.py")
                && !is_test_file("latest.py")
        );
        assert!(is_ci_file(".github/workflows/ci.yml") && !is_ci_file("docs/.travis.yml"));
    }
}
