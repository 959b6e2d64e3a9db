import Foundation
import Models
import Tensors

/// A reward whose network runs on libtorch.
///
/// A plugin implements this protocol and exports `rewardEntry`;
/// the kit implements the rest of `dag_reward.h`.
package protocol NeuralReward: AnyObject {
    /// The plugin's description of itself.
    static var card: RewardCard { get }
    /// Loads the network.
    /// - Throws: an error whose description is one line that names the file or setting.
    init(_ settings: NeuralSettings) throws
    /// A summary of the loaded network and its sizes, for the log.
    var summary: String { get }
    /// Scores n images. Calls never overlap.
    /// - Parameter prompts: one for each image.
    /// - Returns: scores `[n, objectives]`, row-major.
    /// - Throws: `TensorError` if memory runs out, whereupon the
    ///   kit tries fewer images; any other error fails the batch.
    func score(_ images: BorrowedImages, prompts: [String]) throws -> [Float]
}

/// A plugin's description of itself, as in `dag_reward_info`.
///
/// The kit adds the options `weights`, `precision`, `batch_size` and `threads` to the plugin's own.
package struct RewardCard: Sendable {
    /// The name in settings: lower-case words joined by `_`.
    package var name: String
    /// The version, which is part of the fingerprint: raise it when scores change.
    package var version: String
    /// One line for users.
    package var description: String
    /// The license as an SPDX expression.
    package var license: String
    /// The paper or repository that the reward comes from.
    package var source: String
    /// Name and description, with unit and range, of each objective. All are to be maximised.
    package var objectives: [(name: String, description: String)]
    /// The description of the option `weights`: the file or folder, and where to get it.
    package var weights: String
    /// Key, default and description of the plugin's own options.
    package var options: [(key: String, defaultValue: String, description: String)]

    /// The memberwise initialiser.
    package init(
        name: String, version: String, description: String, license: String, source: String,
        objectives: [(name: String, description: String)], weights: String,
        options: [(key: String, defaultValue: String, description: String)] = []
    ) {
        self.name = name
        self.version = version
        self.description = description
        self.license = license
        self.source = source
        self.objectives = objectives
        self.weights = weights
        self.options = options
    }

    var allOptions: [(key: String, defaultValue: String, description: String)] {
        [("weights", "", weights)] + options + [
            ("precision", "fp32", "fp32, bf16, or auto: bf16 where the hardware multiplies it"),
            ("batch_size", "32", "images computed at once; halved where memory does not suffice"),
            ("threads", "0", "threads of an operation on the CPU; 0: libtorch's choice"),
        ]
    }
}
