import ArgumentParser
import Commands
import Foundation
import Rewards

struct ListCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists the reward plugins that can be named without a path, and the folders they are looked for in.")

    @Flag(help: "Print JSON.") var json = false

    private struct Entry {
        let file: String
        /// The plugin's description, or the reason why it cannot be used.
        let plugin: Result<RewardDescription, RewardError>
        /// The file of the same name in an earlier folder.
        let shadowedBy: String?
    }

    /// A folder in which plugins are looked for.
    private struct Folder {
        let path: String
        /// The reason why nothing is found in it; nil: it is a folder.
        let problem: String?
        let entries: [Entry]
    }

    mutating func execute() throws {
        var seen: [String: String] = [:]
        let folders = InstalledFiles.rewardFolders().map { path -> Folder in
            var isFolder: ObjCBool = false
            let isThere = FileManager.default.fileExists(atPath: path, isDirectory: &isFolder)
            let files = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
            // The trainer itself may lie beside its plugins.
            let libraries = files.filter { $0.hasSuffix(".so") && $0 != "libdagcore.so" }.sorted()
            let entries = libraries.map { name in
                let file = "\(path)/\(name)"
                defer { seen[name] = seen[name] ?? file }
                return Entry(file: file, plugin: Self.describe(file), shadowedBy: seen[name])
            }
            let problem = isThere ? "not a folder" : "no such folder"
            return Folder(path: path, problem: isFolder.boolValue ? nil : problem, entries: entries)
        }
        if json { return try printJSON(folders) }
        for folder in folders {
            say(folder.path + (folder.problem.map { ": \($0)" } ?? (folder.entries.isEmpty ? ": no plugins" : "")))
            table(
                folder.entries.map { entry in
                    let name = URL(fileURLWithPath: entry.file).lastPathComponent
                    let text =
                        switch entry.plugin {
                        case .success(let found): "\(found.name) \(found.version): \(found.detail)"
                        case .failure(let error): "cannot be used: \(error)"
                        }
                    return ["  \(name)", entry.shadowedBy.map { "not used by name: \($0) comes first" } ?? text]
                })
        }
    }

    /// Describes the plugin in a file. A file that is obviously not a plugin is not opened.
    private static func describe(_ file: String) -> Result<RewardDescription, RewardError> {
        guard let data = try? Data(contentsOf: URL(fileURLWithPath: file), options: .alwaysMapped) else {
            return .failure(RewardError("not a readable file"))
        }
        guard data.starts(with: Data("\u{7f}ELF".utf8)) else { return .failure(RewardError("not a shared library")) }
        guard data.range(of: Data("dag_reward_entry\0".utf8)) != nil else {
            return .failure(RewardError("does not export dag_reward_entry"))
        }
        var specification = RewardSpecification(library: file)
        specification.timeout = 20
        do { return .success(try specification.open().description) } catch { return .failure(RewardError("\(error)")) }
    }

    private func printJSON(_ folders: [Folder]) throws {
        let object = try folders.map { folder -> [String: Any] in
            let plugins = try folder.entries.map { entry -> [String: Any] in
                var object: [String: Any] = ["file": entry.file]
                switch entry.plugin {
                case .success(let found): object["description"] = try JSONSerialization.jsonObject(with: JSONEncoder().encode(found))
                case .failure(let error): object["error"] = error.description
                }
                object["shadowed_by"] = entry.shadowedBy
                return object
            }
            return ["folder": folder.path, "exists": folder.problem == nil, "plugins": plugins]
        }
        say(try jsonText(object))
    }
}
