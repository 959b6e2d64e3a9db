import ArgumentParser
import Commands
import DAGCore
import Foundation
import Support

@main
struct ReportCommand: Command {
    static let configuration = CommandConfiguration(
        commandName: "dag-report",
        abstract: "Shows runs of dag-train on one page: curves, images before and after, rewards, modes, warnings, settings.",
        discussion: """
            Every run keeps a page of itself, report.html in its output folder, and renews it after each epoch. \
            This program makes it anew, with what dag-eval has found since (in the folder evaluation of the run's), \
            or puts several runs beside each other.

            EXAMPLES
              The page of a run, with modes against the exact sampler:
                dag-eval --run runs/demo --modes red,orange,yellow --output runs/demo/evaluation
                dag-report runs/demo
              Three runs on one page:
                dag-report runs/db runs/kl runs/ddpo --output comparison.html
            """,
        version: DAGVersion.text)

    @Argument(help: ArgumentHelp("Output folders of dag-train, up to 8.", valueName: "run"))
    var runs: [String]
    @Option(help: ArgumentHelp("The file to write. (default: report.html in the folder of a single run)", valueName: "file.html"))
    var output: String?

    static func line(for error: any Error) -> String { ErrorReport.line(for: error, .flag) }
    static func isUsageError(_ error: any Error) -> Bool { ErrorReport.isUsageError(error) }

    func execute() throws {
        let folders = runs.map(OutputFolder.init)
        guard folders.count <= 8 else {
            throw ConfigurationError("a page has room for 8 runs, not \(folders.count): compare fewer at once")
        }
        guard let file = output.map(URL.init(fileURLWithPath:)) ?? (folders.count == 1 ? folders[0].page : nil) else {
            throw ConfigurationError("\(setting: "output") is missing: the file for the page of \(folders.count) runs")
        }
        try OutputFolder.writeAtomically(RunPage(folders).html(), to: file)
        say(file.relativePath)
    }
}
