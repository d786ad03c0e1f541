package cli

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// environment joins the files' variables and, after them, those of -e.
func environment(files, given []string) ([]string, error) {
	var lines []string
	for _, path := range files {
		fromFile, err := readLines("--env-file", path)
		if err != nil {
			return nil, err
		}
		lines = append(lines, fromFile...)
	}
	return resolveEnv(append(lines, given...))
}

// readLines reads a file of lines, without comments and empty ones.
func readLines(flag, path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	defer func() { _ = file.Close() }()
	var lines []string
	for scanner := bufio.NewScanner(file); ; {
		if !scanner.Scan() {
			if err := scanner.Err(); err != nil {
				return nil, fmt.Errorf("%s %s: %w", flag, path, err)
			}
			return lines, nil
		}
		line := strings.TrimLeft(scanner.Text(), " \t")
		if line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
}

// resolveEnv gives names without a value this process's; one that is not set
// here is left out.
func resolveEnv(lines []string) ([]string, error) {
	var env []string
	for _, line := range lines {
		name, _, hasValue := strings.Cut(line, "=")
		if name == "" {
			return nil, fmt.Errorf("invalid environment variable %q: want NAME=VALUE", line)
		}
		if !hasValue {
			value, set := os.LookupEnv(name)
			if !set {
				continue
			}
			line = name + "=" + value
		}
		env = append(env, line)
	}
	return env, nil
}

// withProxies adds the variables that docker's configuration file has for programs that
// are to reach the world by a proxy, but for those given.
func (a *app) withProxies(env []string) []string {
	given := map[string]bool{}
	for _, line := range env {
		name, _, _ := strings.Cut(line, "=")
		given[name] = true
	}
	proxies := a.credentials().ParseProxyConfig(a.daemonHost(), nil)
	for _, name := range slices.Sorted(maps.Keys(proxies)) {
		if value := proxies[name]; value != nil && !given[name] {
			env = append(env, name+"="+*value)
		}
	}
	return env
}
