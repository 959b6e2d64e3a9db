/// Makes rewards: an open library of any kind, in this process or another.
package protocol RewardFactory: AnyObject, Sendable {
    /// The description of the rewards that it makes.
    var description: RewardDescription { get }
    /// Makes a reward: loads the model and whatever else scoring needs.
    /// - Parameters:
    ///   - options: settings; those that are declared and not given have their defaults.
    ///   - device: where it computes, such as `cpu` or `cuda:0`.
    ///   - timeout: seconds that a call, this one included, may take; nil: any time.
    /// - Throws: `RewardError` for an unknown setting or device, or with the reward's own message.
    func make(options: [String: String], device: String, timeout: Double?) throws -> any Reward
}
