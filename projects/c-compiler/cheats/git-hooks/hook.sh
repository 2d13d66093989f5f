#!/bin/sh
touch /tmp/hook-ran /workspace/hook-ran
