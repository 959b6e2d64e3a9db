import ArgumentParser
import Commands
import Foundation
import Rewards

struct NewCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "new", abstract: "Makes a folder with a reward of your own that builds and passes the checks.",
        discussion: """
            It scores something simple; its README.md says what to change. NAME becomes the name of the reward, of its file and of its objective.
            """)

    @Argument(help: "The reward's name: lower-case letters, digits and underscores.") var name: String
    @Option(help: "c, cpp, go, python, rust or swift.") var language: Language
    @Option(help: ArgumentHelp("The folder to make. (default: NAME)", valueName: "dir")) var folder: String?

    mutating func validate() throws {
        guard name.wholeMatch(of: /[a-z][a-z0-9_]{0,49}/) != nil else {
            throw ValidationError("\(name) is not a reward's name: at most 50 lower-case letters, digits and underscores, a letter first")
        }
    }

    mutating func execute() throws {
        let folder = URL(fileURLWithPath: folder ?? name)
        let files = try language.files(name: name, InstalledFiles.rewardTemplates())
        let manager = FileManager.default
        do {
            try manager.createDirectory(at: folder.deletingLastPathComponent(), withIntermediateDirectories: true)
            try manager.createDirectory(at: folder, withIntermediateDirectories: false)
        } catch CocoaError.fileWriteFileExists {
            throw RewardError("\(folder.relativePath) is there already; choose another --folder")
        } catch {
            throw RewardError("\(folder.relativePath) cannot be made: \(error.localizedDescription)")
        }
        do {
            for (path, data) in files {
                let file = folder.appendingPathComponent(path)
                try manager.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
                try data.write(to: file)
            }
        } catch {
            try? manager.removeItem(at: folder)
            throw RewardError("\(folder.relativePath) cannot be made: \(error.localizedDescription)")
        }
        let product = language.product(name)
        say("made \(folder.relativePath): \(files.keys.sorted().joined(separator: ", "))")
        say("next:")
        say("  cd \(folder.relativePath)" + (language.build.map { " && \($0)" } ?? ""))
        say("  dag-reward check ./\(product)")
        say("  dag-train --reward-plugin ./\(product) ...")
        say("for others, as a Python package (docs/packaging.md):")
        say("  dag-reward info ./\(product) --json > \(RewardManifest.file(of: product).relativePath) && pip wheel --no-deps .")
    }
}

/// The languages of the templates in examples/plugins.
enum Language: String, ExpressibleByArgument, CaseIterable {
    case c, cpp, go, python, rust, swift

    /// The name of the template's reward.
    private var word: String {
        switch self {
        case .c: "brightness"
        case .cpp: "colourfulness"
        case .go: "symmetry"
        case .python: "sharpness"
        case .rust: "detail"
        case .swift: "roughness"
        }
    }

    /// What builds it; nil if there is nothing to build.
    var build: String? {
        switch self {
        case .c, .cpp, .go: "make"
        case .python: nil
        case .rust: "cargo build --release"
        case .swift: "swift build -c release"
        }
    }

    /// The reward's file within its folder.
    func product(_ name: String) -> String {
        switch self {
        case .c, .cpp, .go: "lib\(name).so"
        case .python: "\(name)_reward.py"  // a file called as a module would be imported in its place
        case .rust: "target/release/lib\(name).so"
        case .swift: ".build/release/lib\(name).so"
        }
    }

    /// Reads the template and gives it another name.
    /// - Returns: the contents of files by their paths in the new folder.
    /// - Throws: `RewardError` if a file cannot be read, or the name means something in the template already.
    func files(name: String, _ installed: (templates: URL, header: URL)) throws -> [String: Data] {
        let template = installed.templates.appendingPathComponent(rawValue)
        let renamesType = name != word && ![.c, .python].contains(self)
        let type = name.split(separator: "_").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
        // The template's name where it is one: it may be an ordinary word too.
        let names = [
            ("lib\(word)", "lib\(name)"), ("\"\(word)\"", "\"\(name)\""), ("\(word).c", "\(name).c"),
            ("module \(word)\n", "module \(name)\n"), (word.capitalized, type), ("my_reward", "\(name)_reward"),
        ]
        // The header comes along, the configurations of examples/ do not.
        let places = [
            ("--config examples/configs/tiny-sd-warmth.yaml ", "--model FOLDER --prompts FILE "),
            ("../../../include", "."), ("DAG_INCLUDE=/path/to/dag/include", ""), ("make \n", "make\n"), ("     swift", "    swift"),
            ("Copy this folder anywhere.\n", ""),
            (
                "`DAG_INCLUDE` is the folder with `dag_reward.h` (within the repository it is found by itself):",
                "`dag_reward.h` is in this folder; `DAG_INCLUDE` says where another one is:"
            ),
        ]
        var files: [String: Data] = [:]
        let paths = sources(of: template)
        guard paths.contains("README.md"), paths.count > 1 else {
            throw RewardError("\(template.path) is missing or cannot be read; install it again, by make install")
        }
        for path in paths {
            guard let text = try? String(contentsOf: template.appendingPathComponent(path), encoding: .utf8) else {
                throw RewardError("\(template.appendingPathComponent(path).path) cannot be read")
            }
            if renamesType, !path.hasSuffix(".md") {
                let code = text.replacing(/\/\/.*/, with: "")
                guard code.ranges(of: try Regex("\\b\(type)\\b")).isEmpty, !["Any", "Self", "Type"].contains(type) else {
                    throw RewardError("\(type) means something in a reward in \(rawValue); choose another name than \(name)")
                }
            }
            func renamed(_ text: String) -> String { names.reduce(text) { $0.replacingOccurrences(of: $1.0, with: $1.1) } }
            guard files[renamed(path)] == nil else {
                throw RewardError("\(renamed(path)) is another file of a reward in \(rawValue); choose another name than \(name)")
            }
            files[renamed(path)] = Data(places.reduce(renamed(text)) { $0.replacingOccurrences(of: $1.0, with: $1.1) }.utf8)
        }
        for (path, text) in try wheel(name, installed.templates.appendingPathComponent("wheel")) { files[path] = Data(text.utf8) }
        if ![.python, .rust].contains(self) {
            guard let header = try? Data(contentsOf: installed.header) else { throw RewardError("\(installed.header.path) cannot be read") }
            files["dag_reward.h"] = header
        }
        return files
    }

    /// Reads the files that make a Python wheel of a reward, which are written for one in C called `brightness`.
    private func wheel(_ name: String, _ template: URL) throws -> [(path: String, text: String)] {
        let mark = "@"  // in no name, so that nothing is replaced twice
        let package = "dag_reward_\(mark)"
        let changes = [
            ("brightness", mark),
            ("\"\(package)\"\n\n# hatch", "\"\(self == .python ? "\(package).\(mark)_reward" : package)\"\n\n# hatch"),
            ("dependencies = []", self == .python ? "dependencies = [\"numpy\"]" : "dependencies = []"),
            ("BUILD = \"make\"", "BUILD = \(build.map { "\"\($0)\"" } ?? "None")"), ("lib\(mark).so", product(mark)), (mark, name),
        ]
        return try ["hatch_build.py", "pyproject.toml"].map { path in
            guard let text = try? String(contentsOf: template.appendingPathComponent(path), encoding: .utf8) else {
                throw RewardError("\(template.appendingPathComponent(path).path) cannot be read; install it again, by make install")
            }
            return (path, changes.reduce(text) { $0.replacingOccurrences(of: $1.0, with: $1.1) })
        }
    }

    /// The template's files without what was built.
    private func sources(of template: URL) -> [String] {
        let names = FileManager.default.enumerator(atPath: template.path)?.compactMap { $0 as? String } ?? []
        let built: Set = [".build", "target", "Package.resolved", "Cargo.lock", "__pycache__"]
        return names.filter { path in
            var isFolder: ObjCBool = false
            let exists = FileManager.default.fileExists(atPath: template.appendingPathComponent(path).path, isDirectory: &isFolder)
            return exists && !isFolder.boolValue && !path.hasSuffix(".so")
                && built.isDisjoint(with: path.split(separator: "/").map(String.init))
        }
    }
}
