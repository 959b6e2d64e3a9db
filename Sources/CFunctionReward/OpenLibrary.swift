import Rewards

/// Opens a plugin or a C library in this process: an `opener` for `RewardSpecification.open`.
/// - Throws: `RewardError`.
@Sendable package func openLibrary(_ path: String, kind: RewardSpecification.Kind) throws -> any RewardFactory {
    kind == .cLibrary ? try CLibrary(path: path) : try RewardSpecification.openPlugin(path, kind: kind)
}
