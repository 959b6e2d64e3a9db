// Serves one reward library to the program that started it, over a socket: see WorkerServer. Not meant to be called by hand.
import Foundation
import Rewards

guard CommandLine.arguments.count == 3 else {
    try? FileHandle.standardError.write(contentsOf: Data("dag-reward-worker is run by dag-train and dag-reward, not by hand\n".utf8))
    exit(2)
}
exit(WorkerServer.run(kind: CommandLine.arguments[1], path: CommandLine.arguments[2]))
