package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/kuma-dp/kuma-dp/internal/command"
)

// logFlags are the flags of all commands that log (contract agent.md §1.2).
type logFlags struct {
	level, path               string
	maxSize, maxFiles, maxAge int
}

func (l *logFlags) bind(f *pflag.FlagSet) {
	f.StringVar(&l.level, "log-level", "info", "off, info or debug")
	f.StringVar(&l.path, "log-output-path", "", "write logs to this file, and rotate it")
	f.IntVar(&l.maxSize, "log-max-size", 100, "size in MB at which the file is rotated")
	f.IntVar(&l.maxFiles, "log-max-retained-files", 1000, "rotated files to keep")
	f.IntVar(&l.maxAge, "log-max-age", 30, "days to keep rotated files")
}

// logger makes the logger; close it at the end.
func (l *logFlags) logger(s command.Streams) (*slog.Logger, io.Closer, error) {
	log, err := command.NewLog(s.Err, l.level)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", err, command.ErrUsage)
	}
	if l.path == "" || l.level == "off" {
		return log, noFile{}, nil
	}
	path, err := filepath.Abs(l.path)
	if err != nil {
		return nil, nil, fmt.Errorf("find log file %s: %w", l.path, err)
	}
	// Found out now, not at the first line: lumberjack would lose it silently.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("open log file: %w: check --log-output-path", err)
	}
	if err := f.Close(); err != nil {
		return nil, nil, fmt.Errorf("close log file: %w", err)
	}
	rotating := &lumberjack.Logger{Filename: path, MaxSize: l.maxSize, MaxBackups: l.maxFiles, MaxAge: l.maxAge}
	fmt.Fprintf(s.Out, "kuma-dp: logs will be stored in %q\n", path)
	log, err = command.NewLog(rotating, l.level)
	return log, rotating, err
}

// noFile is the log that needs no closing.
type noFile struct{}

func (noFile) Close() error { return nil }
