import Foundation

/// The repository's root.
package let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

/// Tests/Goldens: numbers of the reference implementations, with the scripts that make them.
package let goldens = repository.appendingPathComponent("Tests/Goldens")

/// Path of the shipped pipeline.
package let tinySD = repository.appendingPathComponent("models/tiny-sd").path

/// Path of the shipped pipeline without text.
package let tinyDDPM = repository.appendingPathComponent("models/tiny-ddpm").path

/// The folder of the built programs and libraries, which is that of the tests.
package let programs = URL(fileURLWithPath: CommandLine.arguments[0]).resolvingSymlinksInPath().deletingLastPathComponent()
