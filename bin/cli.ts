export * from "../bench/cli.ts";
