import ArgumentParser
import Commands
import Foundation
import Rewards

struct ListCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "Lists the reward plugins that are found by name, and where they are looked for.")

    @Flag(help: "Print JSON.") var json = false

    private struct Entry {
        let file: String
        /// Its description, or why it cannot be used.
        let plugin: Result<RewardDescription, RewardError>
        /// The file of the same name that is found first.
        let shadowedBy: String?
    }

    mutating func execute() throws {
        var seen: [String: String] = [:]
        let folders = InstalledFiles.rewardFolders().map { folder -> (folder: String, isThere: Bool, entries: [Entry]) in
            let files = try? FileManager.default.contentsOfDirectory(atPath: folder).filter { $0.hasPrefix("lib") && $0.hasSuffix(".so") }
                .sorted()
            let entries = (files ?? []).compactMap { name -> Entry? in
                let file = "\(folder)/\(name)"
                guard Self.mentionsTheEntry(file) else { return nil }
                defer { seen[name] = seen[name] ?? file }
                return Entry(file: file, plugin: Self.describe(file), shadowedBy: seen[name])
            }
            return (folder, files != nil, entries)
        }
        if json { return try printJSON(folders) }
        for (folder, isThere, entries) in folders {
            say(folder + (!isThere ? ": no such folder" : entries.isEmpty ? ": no plugins" : ""))
            table(
                entries.map { entry in
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

    /// Whether a library can be a plugin at all; the others are not opened.
    private static func mentionsTheEntry(_ file: String) -> Bool {
        let data = try? Data(contentsOf: URL(fileURLWithPath: file), options: .alwaysMapped)
        return data?.range(of: Data("dag_reward_entry\0".utf8)) != nil
    }

    private static func describe(_ file: String) -> Result<RewardDescription, RewardError> {
        var specification = RewardSpecification(library: file)
        specification.timeout = 20
        do { return .success(try specification.open().description) } catch {
            return .failure(RewardError("\(error)"))
        }
    }

    private func printJSON(_ folders: [(folder: String, isThere: Bool, entries: [Entry])]) throws {
        let object = try folders.map { folder, isThere, entries -> [String: Any] in
            let plugins = try entries.map { entry -> [String: Any] in
                var object: [String: Any] = ["file": entry.file]
                switch entry.plugin {
                case .success(let found): object["description"] = try JSONSerialization.jsonObject(with: JSONEncoder().encode(found))
                case .failure(let error): object["error"] = error.description
                }
                object["shadowed_by"] = entry.shadowedBy
                return object
            }
            return ["folder": folder, "exists": isThere, "plugins": plugins]
        }
        say(try jsonText(object))
    }
}
