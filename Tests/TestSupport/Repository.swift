import Foundation

/// The repository's root.
public let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

/// Tests/Goldens: numbers of the reference implementations, with the scripts that make them.
public let goldens = repository.appendingPathComponent("Tests/Goldens")

/// Path of the shipped pipeline.
public let tinySD = repository.appendingPathComponent("models/tiny-sd").path

/// The folder of the built programs and libraries, which is that of the tests.
public let programs = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
