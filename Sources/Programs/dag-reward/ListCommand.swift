import ArgumentParser
import Commands
import Foundation
import Rewards

struct ListCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists the rewards that can be named without a path, and where they are looked for.",
        discussion: """
            No reward is loaded: what one is stands in its manifest (libNAME.so.json beside libNAME.so), which dag-reward info --json \
            prints. Folders come first, then the packages of a Python.
            """)

    @Option(
        help: ArgumentHelp("The Python whose packages are listed. (default: \(RewardSpecification.defaultPython))", valueName: "path"))
    var python: String?
    @Flag(help: "Print JSON.") var json = false

    /// A place in which rewards are looked for.
    private struct Place {
        /// A folder, or an interpreter.
        let name: String
        let isFolder: Bool
        /// The reason why nothing is found there; nil: there is none.
        let problem: String?
        let entries: [Entry]
    }

    /// What is known of a reward without loading it.
    private enum State {
        case described(RewardDescription)
        /// The reason why the manifest cannot be read; nil: there is none.
        case undescribed(String?)
        case unusable(String)
    }

    private struct Entry {
        /// The file's name, or that of the package's reward.
        let name: String
        let file: String?
        /// The package and its version.
        var distribution: String?
        let state: State
        /// What comes first where the reward is looked for by its name.
        var shadowedBy: String?
    }

    mutating func execute() throws {
        let folders = Self.folders()
        let interpreter = InstalledFiles.program(python ?? RewardSpecification.defaultPython)
        let packages: Place
        do { packages = Self.packages(of: interpreter, try PackagedReward.all(of: interpreter), after: python == nil ? folders : []) } catch
        {
            if python != nil { throw error }
            packages = Place(name: interpreter, isFolder: false, problem: "\(error)", entries: [])
        }
        let places = folders + [packages]
        if json { return try printJSON(places) }
        for place in places {
            let title = place.isFolder ? place.name : "packages of \(place.name)"
            say(title + (place.problem.map { ": \($0)" } ?? (place.entries.isEmpty ? ": no rewards" : "")))
            table(place.entries.map { ["  \($0.name)", Self.line($0)] })
        }
    }

    private static func line(_ entry: Entry) -> String {
        if let first = entry.shadowedBy { return "not used by name: \(first) comes first" }
        let source = entry.distribution.map { " (\($0))" } ?? ""
        switch entry.state {
        case .described(let found): return "\(found.name) \(found.version): \(found.detail)\(source)"
        case .undescribed(nil): return "no manifest beside it; dag-reward info says what it is\(source)"
        case .undescribed(let problem?): return "its manifest cannot be read: \(problem)\(source)"
        case .unusable(let problem): return "cannot be used: \(problem)\(source)"
        }
    }

    private static func folders() -> [Place] {
        var seen: [String: String] = [:]
        return InstalledFiles.rewardFolders().map { path in
            var isFolder: ObjCBool = false
            let isThere = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
            let files = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
            // The trainer itself may lie beside its plugins.
            let libraries = files.filter { $0.hasSuffix(".so") && $0 != "libdagcore.so" }.sorted()
            let entries = libraries.map { name in
                let file = "\(path)/\(name)"
                defer { seen[name] = seen[name] ?? file }
                return Entry(name: name, file: file, state: plugin(file), shadowedBy: seen[name])
            }
            let problem = isThere ? "not a folder" : "no such folder"
            return Place(name: path, isFolder: true, problem: isFolder.boolValue ? nil : problem, entries: entries)
        }
    }

    private static func packages(of interpreter: String, _ rewards: [PackagedReward], after folders: [Place]) -> Place {
        let files = folders.flatMap(\.entries)
        let entries = rewards.map { reward in
            let state: State =
                if rewards.count(where: { $0.name == reward.name }) > 1 {
                    .unusable("several packages have a reward of this name; uninstall all but one")
                } else if let file = reward.file {
                    file.hasSuffix(".py") ? description(file) : plugin(file)
                } else {
                    .unusable(reward.problem ?? "it has no file")
                }
            return Entry(
                name: reward.name, file: reward.file, distribution: reward.distribution, state: state,
                shadowedBy: files.first { $0.name == "lib\(reward.name).so" }?.file)
        }
        return Place(name: interpreter, isFolder: false, problem: nil, entries: entries)
    }

    /// Looks at a plugin's file. One that is obviously no plugin is said to be none.
    private static func plugin(_ file: String) -> State {
        guard let data = try? Data(contentsOf: URL(fileURLWithPath: file), options: .alwaysMapped) else {
            return .unusable("not a readable file")
        }
        guard data.starts(with: Data("\u{7f}ELF".utf8)) else { return .unusable("not a shared library") }
        guard data.range(of: Data("dag_reward_entry\0".utf8)) != nil else { return .unusable("does not export dag_reward_entry") }
        return description(file)
    }

    private static func description(_ file: String) -> State {
        do { return try RewardManifest.read(of: file).map(State.described) ?? .undescribed(nil) } catch { return .undescribed("\(error)") }
    }

    private func printJSON(_ places: [Place]) throws {
        let object = try places.map { place -> [String: Any] in
            let rewards = try place.entries.map { entry -> [String: Any] in
                var object: [String: Any] = ["name": entry.name]
                object["file"] = entry.file
                object["package"] = entry.distribution
                switch entry.state {
                case .described(let found): object["description"] = try JSONSerialization.jsonObject(with: JSONEncoder().encode(found))
                case .undescribed(let problem): object["manifest_error"] = problem
                case .unusable(let problem): object["error"] = problem
                }
                object["shadowed_by"] = entry.shadowedBy
                return object
            }
            var object: [String: Any] = [place.isFolder ? "folder" : "python": place.name, "rewards": rewards]
            object["problem"] = place.problem
            return object
        }
        say(try jsonText(object))
    }
}
