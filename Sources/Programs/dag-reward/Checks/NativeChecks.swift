import CDAGCore
import Foundation
import Rewards
import Support

/// Checks of a plugin's entry, description and instances against dag_reward.h.
extension Checks {
    static let native: [Check] = [
        pluginCheck("exports", "the library exports dag_reward_entry and nothing else", exports),
        pluginCheck("versions", "entry refuses versions of the ABI that it does not speak, with a reason", versions),
        pluginCheck("description", "the plugin describes itself completely", description),
        pluginCheck("create", "instances can be made and destroyed again and again without losing memory", create),
        pluginCheck("unknown_options", "unknown settings are refused by name", unknownOptions),
        pluginCheck("bad_values", "senseless settings are refused with a message, or taken", badValues),
    ]

    /// A check of a plugin alone.
    static func pluginCheck(_ name: String, _ what: String, _ body: @escaping @Sendable (RawPlugin) throws -> CheckOutcome) -> Check {
        Check(name: name, what: what, isNative: true) { try body(RawPlugin($0)) }
    }

    private static func exports(_ plugin: RawPlugin) throws -> CheckOutcome {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["nm", "-D", "--defined-only", plugin.library.path]
        process.standardOutput = pipe
        process.standardError = FileHandle.nullDevice
        try process.run()
        let text = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        guard process.terminationStatus == 0 else { return .skip("needs nm, of binutils") }
        // nm marks local symbols with lower-case letters, and unique global symbols (u) and indirect
        // functions (i) too.
        let visible = text.split(separator: "\n").map { $0.split(separator: " ") }.filter {
            $0.count > 1 && $0[$0.count - 2].allSatisfy { $0.isUppercase || $0 == "u" || $0 == "i" }
        }
        let others = visible.map { String($0[$0.count - 1]) }.filter {
            !["dag_reward_entry", "__bss_start", "_edata", "_end", "_init", "_fini"].contains($0)  // the linker's own
        }
        if others.isEmpty { return .pass }
        return .warn(
            "exports \(others.count) more symbols, such as \(others[0]): compile with -fvisibility=hidden, or link with a version script")
    }

    private static func versions(_ plugin: RawPlugin) throws -> CheckOutcome {
        var table: UnsafePointer<dag_reward_plugin>?
        let (status, message) = try RawPlugin.withError { plugin.entry(RawPlugin.host(versions: 1000...2000), &table, $0) }
        guard status == Int32(DAG_REWARD_UNSUPPORTED) else {
            throw CheckFailure(
                "a host that speaks versions 1000 to 2000 got status \(status); return DAG_REWARD_UNSUPPORTED (DAG_REWARD_PLUGIN does)")
        }
        guard !message.isEmpty else { throw CheckFailure("refused versions 1000 to 2000 without a message") }
        let (wide, reason) = try RawPlugin.withError { plugin.entry(RawPlugin.host(versions: 1...1000), &table, $0) }
        guard wide == 0, table?.pointee.abi_version == 1 else {
            throw CheckFailure("a host that speaks versions 1 to 1000 got status \(wide) \(reason); answer with version 1")
        }
        return .pass
    }

    private static func description(_ plugin: RawPlugin) throws -> CheckOutcome {
        let d = plugin.description
        // The names of the reward and its objectives were validated when the library was opened.
        for key in d.options.map(\.key) where !RewardDescription.isName(key) {
            throw CheckFailure("the option `\(key)` is not lower-case words joined by _")
        }
        guard Set(d.options.map(\.key)).count == d.options.count else { throw CheckFailure("an option is declared twice") }
        let lines =
            [("version", d.version), ("description", d.detail), ("license", d.license), ("source", d.source)]
            + d.objectives.map { ("description of \($0.name)", $0.detail) } + d.options.map { ("description of \($0.key)", $0.detail) }
        for (what, text) in lines where text.isEmpty || text.contains("\n") {
            throw CheckFailure("the \(what) is empty or more than one line")
        }
        return .pass
    }

    private static func create(_ plugin: RawPlugin) throws -> CheckOutcome {
        for _ in 0..<5 { plugin.destroy(try plugin.create()) }
        let first = try plugin.create()
        let second = try plugin.create()
        plugin.destroy(first)
        plugin.destroy(second)
        try LeakCheck.run("instance") { plugin.destroy(try plugin.create()) }
        return .pass
    }

    private static func unknownOptions(_ plugin: RawPlugin) throws -> CheckOutcome {
        guard plugin.description.takesOtherOptions else { return .pass }  // the host refuses them
        let (status, message, _) = try plugin.tryCreate(["no_such_option": "1"])
        guard status == Int32(DAG_REWARD_INVALID), message.contains("no_such_option") else {
            throw CheckFailure(
                "create with no_such_option=1 gave status \(status) `\(message)`: refuse it with DAG_REWARD_INVALID and name it")
        }
        return .pass
    }

    private static func badValues(_ plugin: RawPlugin) throws -> CheckOutcome {
        for key in plugin.description.options.map(\.key) {
            for value in ["", "\u{1}", String(repeating: "9", count: 1000), "/no/such/file", "nan"] {
                let (status, message, instance) = try plugin.tryCreate([key: value])
                if status == 0 { plugin.destroy(instance) }
                guard status == 0 || !message.isEmpty else { throw CheckFailure("\(key)=\(value.prefix(20)) is refused without a message") }
                guard !message.contains("\n") else {
                    throw CheckFailure("the message for \(key)=\(value.prefix(20)) is more than one line")
                }
            }
        }
        return .pass
    }
}
