import ArgumentParser
import Commands
import Rewards
import Support

@main
struct RewardCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "dag-reward",
        abstract: "Tries rewards out: scores images, describes a reward, checks that a plugin keeps the rules.",
        discussion: """
            A reward is written as for dag-train: a plugin (hps, libhps.so, ./libmine.so), a Python file (my_reward.py), the name of one in a Python \
            package, or functions of a C library (c:libz.so.1,score=...), with settings after commas.

            EXAMPLES
              dag-reward score jpeg_compressibility,quality=90 *.png
              dag-reward score libhps.so,weights=HPS_v2.1_compressed.pt image.jpg --prompt "a red boot"
              dag-reward info ./my_reward.py
              dag-reward list
              dag-reward new my_reward --language c
              dag-reward check ./libmine.so
            """,
        version: DAGVersion.text, subcommands: [ScoreCommand.self, InfoCommand.self, ListCommand.self, NewCommand.self, CheckCommand.self])

    mutating func execute() throws { throw CleanExit.helpRequest(self) }
}

extension ArgumentHelp {
    /// Help for the argument that names a reward.
    static let reward = ArgumentHelp("The reward, as for dag-train --reward-plugin.", valueName: "lib[,key=value...]")
}
