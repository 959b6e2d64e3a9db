/// What can make rewards: a library that is open, whatever kind it is of and whichever process it is in.
public protocol RewardFactory: AnyObject, Sendable {
    /// What it makes.
    var description: RewardDescription { get }
    /// Loads the model and whatever else scoring needs.
    /// - Parameters:
    ///   - options: settings; those that are declared and not given have their defaults.
    ///   - device: where it computes, such as `cpu` or `cuda:0`.
    ///   - timeout: seconds that a call, this one included, may take; nil: any time.
    ///
    /// Throws `RewardError` for a key that the reward does not know, a device it does not have, or what it says itself.
    func make(options: [String: String], device: String, timeout: Double?) throws -> any Reward
}
