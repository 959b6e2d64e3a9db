import Foundation
import Models
import Tensors

/// A reward whose network runs on libtorch: what one of this project's plugins writes. The kit is the rest of a plugin (`dag_reward.h`).
public protocol NeuralReward: AnyObject {
    /// What the plugin is.
    static var card: RewardCard { get }
    /// Loads the network. Throws an error that says in one line what is wrong with which file or setting.
    init(_ settings: NeuralSettings) throws
    /// What was loaded, for the log: the network and its sizes.
    var summary: String { get }
    /// Scores n pictures, `[n, objectives]`, row-major. Calls never overlap. Memory that runs out is an error: fewer pictures are tried then.
    /// - Parameter prompts: one for each picture.
    func score(_ pictures: Pictures, prompts: [String]) throws -> [Float]
}

/// What a plugin says about itself, as in `dag_reward_info`. The options `weights`, `precision`, `batch_size` and `threads` are added to its own.
public struct RewardCard: Sendable {
    /// Lower-case words joined by `_`.
    public var name, version, description, license, source: String
    /// Name and description, with unit and range; all are to be maximised.
    public var objectives: [(name: String, description: String)]
    /// What `weights` is, with where to get it.
    public var weights: String
    /// Key, default and description of the plugin's own options.
    public var options: [(key: String, defaultValue: String, description: String)]

    /// A card from all that is on it.
    public init(
        name: String, version: String, description: String, license: String, source: String,
        objectives: [(name: String, description: String)], weights: String,
        options: [(key: String, defaultValue: String, description: String)] = []
    ) {
        (self.name, self.version, self.description, self.license) = (name, version, description, license)
        (self.source, self.objectives, self.weights, self.options) = (source, objectives, weights, options)
    }

    var allOptions: [(key: String, defaultValue: String, description: String)] {
        [("weights", "", weights)] + options + [
            ("precision", "fp32", "fp32, bf16, or auto: bf16 where the hardware multiplies it"),
            ("batch_size", "32", "pictures computed at once; where memory does not suffice, halves are tried"),
            ("threads", "0", "threads of an operation on the CPU; 0: libtorch's choice"),
        ]
    }
}
