import Foundation
import Testing

extension Trait where Self == ConditionTrait {
    /// A test that takes long: skipped where DAG_QUICK is set, as `make check` sets it.
    package static var slow: Self { .disabled(if: ProcessInfo.processInfo.environment["DAG_QUICK"] != nil, "slow: run by make test") }

    /// A test that needs `python`.
    package static var python: Self { .enabled(if: hasPython, "needs .venv with numpy, from scripts/setup.sh --python") }

    /// A test that needs programs on PATH.
    package static func programs(_ names: String...) -> Self {
        .enabled(if: names.allSatisfy(Shell.has), "needs \(names.joined(separator: " and "))")
    }

    /// A test that needs an environment variable, which names files that are not in the repository.
    package static func variable(_ name: String) -> Self {
        .enabled(if: ProcessInfo.processInfo.environment[name] != nil, "needs \(name), see the test")
    }
}

/// The Python of scripts/setup.sh --python, which has numpy.
package let python = repository.appendingPathComponent(".venv/bin/python").path

private let hasPython = (try? Shell.run([python, "-c", "import numpy"], in: repository))?.status == 0
