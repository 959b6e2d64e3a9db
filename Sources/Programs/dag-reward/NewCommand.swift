import ArgumentParser
import Commands
import Foundation
import Rewards

struct NewCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "new", abstract: "Makes a folder with a reward of your own that builds and passes the checks.",
        discussion: """
            It scores something simple; its README.md says what to change. The reward is told apart by NAME: it is the library's and the objective's too.
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
        guard (try? folder.checkResourceIsReachable()) != true else {
            throw RewardError("\(folder.relativePath) is there already; choose another --folder")
        }
        let files = try language.files(name: name, InstalledFiles.rewardTemplates())
        do {
            for (path, data) in files {
                let file = folder.appendingPathComponent(path)
                try FileManager.default.createDirectory(at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
                try data.write(to: file)
            }
        } catch {
            try? FileManager.default.removeItem(at: folder)
            throw RewardError("\(folder.relativePath) cannot be made: \(error.localizedDescription)")
        }
        let product = language.product(name)
        say("made \(folder.relativePath): \(files.keys.sorted().joined(separator: ", "))")
        say("next:")
        say("  cd \(folder.relativePath)" + (language.build.map { " && \($0)" } ?? ""))
        say("  dag-reward check ./\(product)")
        say("  dag-train --reward-plugin ./\(product) ...")
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
        case .python: "\(name).py"
        case .rust: "target/release/lib\(name).so"
        case .swift: ".build/release/lib\(name).so"
        }
    }

    /// Reads the template and gives it another name.
    /// - Returns: the contents of files by their paths in the new folder.
    /// - Throws: `RewardError` if a file cannot be read, or the name means something in the template already.
    func files(name: String, _ installed: (templates: URL, header: URL)) throws -> [String: Data] {
        let template = installed.templates.appendingPathComponent(rawValue)
        let type = name.split(separator: "_").map { $0.prefix(1).uppercased() + $0.dropFirst() }.joined()
        // The name where it is one: it may be an ordinary word too.
        let names = [
            ("lib\(word)", "lib\(name)"), ("\"\(word)\"", "\"\(name)\""), ("\(word).c", "\(name).c"),
            ("module \(word)\n", "module \(name)\n"),
            (word.capitalized, type), ("my_reward", name),
        ]
        // The header comes along.
        let places = [
            ("../../../include", "."), ("DAG_INCLUDE=/path/to/dag/include", ""), ("make \n", "make\n"), ("     swift", "    swift"),
            ("Copy this folder anywhere.\n", ""),
            (
                "`DAG_INCLUDE` is the folder with `dag_reward.h` (within the repository it is found by itself):",
                "`dag_reward.h` is in this folder; `DAG_INCLUDE` says where another one is:"
            ),
        ]
        var files: [String: Data] = [:]
        for path in try sources(of: template) {
            guard let text = try? String(contentsOf: template.appendingPathComponent(path), encoding: .utf8) else {
                throw RewardError("\(template.appendingPathComponent(path).path) cannot be read")
            }
            if type != word.capitalized, text.contains(try Regex("\\b\(type)\\b")) {
                throw RewardError("the template in \(rawValue) has something called \(type); choose another name than \(name)")
            }
            func renamed(_ text: String) -> String { names.reduce(text) { $0.replacingOccurrences(of: $1.0, with: $1.1) } }
            files[renamed(path)] = Data(places.reduce(renamed(text)) { $0.replacingOccurrences(of: $1.0, with: $1.1) }.utf8)
        }
        if ![.python, .rust].contains(self) {
            guard let header = try? Data(contentsOf: installed.header) else { throw RewardError("\(installed.header.path) cannot be read") }
            files["dag_reward.h"] = header
        }
        return files
    }

    /// The template's files without what was built.
    private func sources(of template: URL) throws -> [String] {
        let names = FileManager.default.enumerator(atPath: template.path)?.compactMap { $0 as? String } ?? []
        let built: Set = [".build", "target", "Package.resolved", "Cargo.lock", "__pycache__"]
        return names.filter { path in
            var isFolder: ObjCBool = false
            FileManager.default.fileExists(atPath: template.appendingPathComponent(path).path, isDirectory: &isFolder)
            return !isFolder.boolValue && !path.hasSuffix(".so") && built.isDisjoint(with: path.split(separator: "/").map(String.init))
        }
    }
}
