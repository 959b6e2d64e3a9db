// Serves one reward library to the program that started it, over a socket: see WorkerServer. Not meant to be called by hand.
import CFunctionReward
import Foundation
import Rewards

guard CommandLine.arguments.count == 3, let kind = RewardSpecification.Kind(rawValue: CommandLine.arguments[1]) else {
    try? FileHandle.standardError.write(contentsOf: Data("dag-reward-worker is run by dag-train and dag-reward, not by hand\n".utf8))
    exit(2)
}
// Objects that a setup made in a C library are never destroyed, and its exit handlers might complain of that.
exit(WorkerServer.run(callingExitHandlers: kind != .cLibrary) { try openLibrary(CommandLine.arguments[2], kind: kind) })
